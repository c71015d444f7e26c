import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from flstore.errors import InvalidParameterError, StoreError, UnknownNameError
from flstore.federated import digits, images
from flstore.federated.models import torchvision_module


def test_digits_are_all_there_once():
    data = digits(partitions=20, seed=3)
    assert data.train_images.shape == (1437, 3, 32, 32)
    assert data.test_images.shape == (360, 3, 32, 32)
    assert data.train_images.dtype == np.float32
    assert data.train_labels.dtype == np.int64
    raw = load_digits()
    pixels = np.concatenate([data.train_images, data.test_images])
    labels = np.concatenate([data.train_labels, data.test_labels])
    small = (pixels[:, 0, ::4, ::4].reshape(1797, 64) + 1) * 8
    assert sorted(map(tuple, np.c_[small, labels])) == sorted(
        map(tuple, np.c_[raw.data, raw.target].astype(np.float32))
    )
    assert np.array_equal(pixels[:, 0], pixels[:, 2])
    assert np.array_equal(pixels[:, :, 0, 0], pixels[:, :, 3, 3])
    assert repr(data) == "Images(digits: 1437 training, 360 held out, 20 clients)"
    assert data.classes == tuple("0123456789")


def test_digits_are_kept_and_cannot_be_changed():
    data = digits(partitions=20, seed=3)
    assert digits(partitions=20, seed=3) is data
    for array in (data.train_images, data.train_labels, data.test_images, data.test_labels, data.partitions[0]):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_the_held_out_images_do_not_depend_on_the_split():
    one, other = digits(partitions=20, seed=3), images("digits", 7, split="shard", seed=4)
    assert np.array_equal(one.test_images, other.test_images)
    assert np.array_equal(one.test_labels, other.test_labels)


def test_a_split_is_chosen_by_name():
    assert {len(p) for p in images("digits", 50, split="iid").partitions} == {28, 29}
    sharded = images("digits", 50, split="shard", shards=1)
    assert np.mean([len(np.unique(sharded.train_labels[p])) for p in sharded.partitions]) < 1.5
    with pytest.raises(UnknownNameError, match="no split named 'even'"):
        images("digits", split="even")


def test_more_clients_than_images():
    with pytest.raises(InvalidParameterError, match="2000 partitions of at least 2 need 4000"):
        digits(partitions=2000)


def test_unknown_data():
    with pytest.raises(UnknownNameError, match="Did you mean 'cifar10'"):
        images("cifar100")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten real digits of each of the classes 3 and 8, as PNG files of 8 x 8."""
    raw = load_digits()
    for label in (3, 8):
        (tmp_path / f"digit {label}").mkdir()
        for i, image in enumerate(raw.images[raw.target == label][:10]):
            Image.fromarray((image * 15).astype(np.uint8)).save(tmp_path / f"digit {label}" / f"{i}.png")
    return tmp_path


def test_a_folder_of_images_is_a_data_set(folder: Path):
    data = images("folder", 4, split="iid", root=str(folder))
    assert data.classes == ("digit 3", "digit 8")
    assert data.train_images.shape == (16, 3, 32, 32)
    assert data.test_images.shape == (4, 3, 32, 32)
    assert -1 <= data.train_images.min() < -0.9 < 0.7 < data.train_images.max() <= 1
    assert sorted([*data.train_labels, *data.test_labels]) == [0] * 10 + [1] * 10
    assert images("folder", 4, split="iid", root=str(folder)) is data
    eight = np.asarray(Image.open(folder / "digit 8" / "0.png").convert("RGB").resize((32, 32)))
    expected = eight.transpose(2, 0, 1).astype(np.float32) / 127.5 - 1
    pixels = np.concatenate([data.train_images, data.test_images])
    labels = np.concatenate([data.train_labels, data.test_labels])
    assert [labels[i] for i in range(20) if np.array_equal(pixels[i], expected)] == [1]


def test_a_folder_may_have_its_own_held_out_images(folder: Path):
    for part, names in (("train", range(7)), ("test", range(7, 10))):
        for label in ("digit 3", "digit 8"):
            (folder / part / label).mkdir(parents=True)
            for i in names:
                (folder / label / f"{i}.png").rename(folder / part / label / f"{i}.png")
    data = images("folder", 2, root=str(folder))
    assert (len(data.train_labels), len(data.test_labels)) == (14, 6)
    (folder / "test" / "digit 3").rename(folder / "test" / "digit 5")
    with pytest.raises(StoreError, match="other classes"):
        images("folder", 3, root=f"{folder}/")


def test_files_that_are_not_there(tmp_path: Path):
    with pytest.raises(StoreError, match="one folder of images a class"):
        images("folder", root=str(tmp_path))
    with pytest.raises(StoreError, match=r"cifar-10-batches-py.*download=True"):
        images("cifar10", root=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_cifar10_is_read_as_torchvision_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Files in the published format; only the list of names and checksums is that of these smaller ones."""
    torchvision_module()
    from torchvision.datasets import CIFAR10

    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()
    rng = np.random.default_rng(0)
    pixels = {name: rng.integers(0, 256, (20, 3, 32, 32), dtype=np.uint8) for name in ("data_batch_1", "test_batch")}

    def write(name: str, content: dict) -> list[str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    labels = [i % 10 for i in range(20)]
    lists = [write(name, {"data": p.reshape(20, -1), "labels": labels}) for name, p in pixels.items()]
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    meta = write("batches.meta", {"label_names": names})
    with pytest.raises(StoreError, match="as they were published"):  # nothing is read that has another checksum
        images("cifar10", 4, root=str(tmp_path))
    monkeypatch.setattr(CIFAR10, "train_list", lists[:1])
    monkeypatch.setattr(CIFAR10, "test_list", lists[1:])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": meta[0], "key": "label_names", "md5": meta[1]})
    data = images("cifar10", 4, split="iid", root=str(tmp_path))
    assert data.classes == tuple(names)
    np.testing.assert_array_equal(data.train_images, pixels["data_batch_1"].astype(np.float32) / 127.5 - 1)
    np.testing.assert_array_equal(data.test_images, pixels["test_batch"].astype(np.float32) / 127.5 - 1)
    assert data.train_labels.tolist() == labels
