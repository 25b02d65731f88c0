import base64
import io

import numpy as np
from PIL import Image

from selftune.tracking.pictures import MAXIMUM_ROWS, read_pictures, save_pictures


def test_pictures_come_back_as_png(tmp_path):
    true = np.linspace(0, 1, 2 * 4 * 6).reshape(2, 4, 6)
    save_pictures(tmp_path, {"noisy": true + 0.1, "true": true})
    rows = read_pictures(tmp_path)
    assert [[shown["caption"] for shown in row] for row in rows] == [["noisy, 20.0 dB", "true"]] * 2
    png = base64.b64decode(rows[1][1]["source"].partition(",")[2])
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))), np.round(255 * true[1]))


def test_equal_pictures_have_no_ratio(tmp_path):
    save_pictures(tmp_path, {"restored": np.zeros((1, 2, 2)), "true": np.zeros((1, 2, 2))})
    assert read_pictures(tmp_path)[0][0]["caption"] == "restored, no difference"


def test_a_page_shows_the_first_ones(tmp_path):
    save_pictures(tmp_path, {"true": np.zeros((20, 2, 2))})
    assert len(read_pictures(tmp_path)) == MAXIMUM_ROWS


def test_folders_without_pictures(tmp_path):
    assert read_pictures(tmp_path) == []
