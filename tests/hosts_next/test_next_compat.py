def test_x(assets): print(assets.data)
