"""Class names of the data sets that the networks were made for, in label order (label 1 first)."""

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

COCO_CLASSES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip

KNOWN_CLASSES = {"voc": VOC_CLASSES, "coco": COCO_CLASSES}

_UNUSED_COCO_IDS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}  # 91 were planned, 80 annotated
COCO_CATEGORY_IDS = tuple(k for k in range(1, 91) if k not in _UNUSED_COCO_IDS)  # of COCO_CLASSES, in label order
_UNUSED = "unused "


def is_unused(name: str) -> bool:
    """Whether a label that is called so has no class; see COCO_CLASSES_BY_ID."""
    return name.startswith(_UNUSED)


# Of networks whose labels are COCO's category numbers, as torchvision's: names of labels 1 to 90.
_BY_ID = dict(zip(COCO_CATEGORY_IDS, COCO_CLASSES))
COCO_CLASSES_BY_ID = tuple(_BY_ID.get(k, f"{_UNUSED}{k}") for k in range(1, 91))
