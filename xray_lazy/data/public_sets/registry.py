"""The public X-ray sets that can be imported."""

from xray_lazy.data.public_sets.bag_files import read_dvxray, read_gdxray, read_pixray, read_stcray
from xray_lazy.data.public_sets.coco_subsets import coco_subsets
from xray_lazy.data.public_sets.declaration import PublicSet, Shares
from xray_lazy.data.public_sets.sixray import read_sixray
from xray_lazy.data.public_sets.text_boxes import TextBoxes, text_boxes

ACADEMIC = "academic use only"
VALIDATION = Shares("train_all", {"train": 0.9, "val": 0.1})
THREE_SPLITS = Shares("all", {"train": 0.7, "val": 0.1, "test": 0.2})
BAGS_OF_TWO_VIEWS = (
    "Gun", "Knife", "Wrench", "Pliers", "Scissors", "Lighter", "Battery", "Bat", "Razor_blade", "Saw_blade",
    "Fireworks", "Hammer", "Screwdriver", "Dart", "Pressure_vessel",
)  # fmt: skip
PIDRAY = (
    "Baton", "Pliers", "Hammer", "Powerbank", "Scissors", "Wrench", "Gun", "Bullet", "Sprayer", "HandCuffs", "Knife",
    "Lighter",
)  # fmt: skip


def _roles(list_name: str, others: dict[str, str] | None = None) -> tuple[TextBoxes, TextBoxes]:
    """The folders of OPIXray and of those that are laid out like it."""
    train, test = (
        TextBoxes(f"{role}/{role}_image", f"{role}/{role}_annotation", subset, f"{role}/{role}_{list_name}.txt", more)
        for role, subset, more in (("train", "train_all", None), ("test", "test", others))
    )
    return train, test


OPIXRAY_ROLES = ("train/train_image", "train/train_annotation", "test/test_image", "test/test_annotation")

PUBLIC_SETS: dict[str, PublicSet] = {
    "opixray": PublicSet(
        title="OPIXray",
        page="https://github.com/OPIXray-author/OPIXray",
        licence=ACADEMIC,
        needs=OPIXRAY_ROLES,
        read=text_boxes(*_roles("knife", {f"test_ol{level}": f"test/test_knife-{level}.txt" for level in (1, 2, 3)})),
        classes=("Folding_Knife", "Straight_Knife", "Scissor", "Utility_Knife", "Multi-tool_Knife"),
        shares=(VALIDATION,),
        protocol="opixray",
    ),
    "hixray": PublicSet(
        title="HiXray",
        page="https://github.com/HiXray-author/HiXray",
        licence=ACADEMIC,
        needs=OPIXRAY_ROLES,
        read=text_boxes(*_roles("name")),
        classes=(
            "Portable_Charger_1",
            "Portable_Charger_2",
            "Water",
            "Laptop",
            "Mobile_Phone",
            "Tablet",
            "Cosmetic",
            "Nonmetallic_Lighter",
        ),
        shares=(VALIDATION,),
        protocol="voc",
    ),
    "xad": PublicSet(
        title="XAD",
        page="https://github.com/DIG-Beihang/X-adv",
        licence=ACADEMIC,
        needs=OPIXRAY_ROLES,
        read=text_boxes(*_roles("knife")),
        classes=("scissor", "tszhediedao", "tsbingdao", "yktsdaopian"),
        shares=(VALIDATION,),
        protocol="voc",
    ),
    "eds": PublicSet(
        title="EDS",
        page="https://github.com/DIG-Beihang/XrayDetection",
        licence=ACADEMIC,
        needs=tuple(f"domain{number}/{kind}" for number in (1, 2, 3) for kind in ("image", "txt")),
        read=text_boxes(TextBoxes("image", "txt", "train_all", others={"test_all": None})),
        classes=(
            "device",
            "glassbottle",
            "knife",
            "laptop",
            "lighter",
            "plasticbottle",
            "powerbank",
            "pressure",
            "scissor",
            "umbrella",
        ),
        parts={f"domain{number}": f"domain{number}" for number in (1, 2, 3)},
        shares=(VALIDATION,),
        protocol="eds",
    ),
    "fsod": PublicSet(
        title="X-ray FSOD",
        page="https://github.com/DIG-Beihang/XrayDetection",
        licence=ACADEMIC,
        needs=("train/images", "train/annotations", "test/images", "test/annotations"),
        read=text_boxes(
            TextBoxes("train/images", "train/annotations", "train_all"),
            TextBoxes("test/images", "test/annotations", "test"),
        ),
        shares=(VALIDATION,),
        protocol="voc",
    ),
    "sixray": PublicSet(
        title="SIXray",
        page="https://github.com/MeioJane/SIXray",
        licence=ACADEMIC,
        needs=("Annotation", "ImageSet"),
        read=read_sixray,
        classes=("Gun", "Knife", "Wrench", "Pliers", "Scissors"),
        protocol="sixray",
    ),
    "pidray": PublicSet(
        title="PIDray",
        page="https://github.com/bywang2018/security-dataset",
        licence=ACADEMIC,
        needs=("annotations/xray_train.json", "train"),
        read=coco_subsets(
            {
                "train_all": ("annotations/xray_train.json", "train"),
                **{f"test_{k}": (f"annotations/xray_test_{k}.json", k) for k in ("easy", "hard", "hidden")},
            },
            merged_height=1040,
        ),
        classes=PIDRAY,
        shares=(VALIDATION,),
        protocol="pidray",
    ),
    "pidray2": PublicSet(
        title="PIDray v2",
        page="https://github.com/lutao2021/PIDray",
        licence=ACADEMIC,
        needs=("annotations/train.json", "train", "test"),
        read=coco_subsets(
            {
                "train_all": ("annotations/train.json", "train"),
                "test": ("annotations/test.json", "test"),
                **{f"test_{k}": (f"annotations/test_{k}.json", "test") for k in ("easy", "hard", "hidden")},
            }
        ),
        classes=PIDRAY,
        shares=(VALIDATION,),
        protocol="pidray",
    ),
    "clcxray": PublicSet(
        title="CLCXray",
        page="https://github.com/GreysonPhoenix/CLCXray",
        licence=ACADEMIC,
        needs=("annotations/instances_train2017.json",),
        read=coco_subsets(
            {split: (f"annotations/instances_{split}2017.json", ".") for split in ("train", "val", "test")},
            file_names={".png": "20_40_04_140.png"},
        ),
        protocol="voc",
    ),
    "dvxray": PublicSet(
        title="DvXray",
        page="https://github.com/Mbwslib/DvXray",
        licence=ACADEMIC,
        needs=("DvXray_Positive_Samples", "DvXray_Negative_Samples"),
        read=read_dvxray,
        classes=BAGS_OF_TWO_VIEWS,
        shares=(THREE_SPLITS,),
        protocol="dvxray",
    ),
    "pixray": PublicSet(
        title="PIXray",
        page="https://github.com/Mbwslib/DDoAS",
        licence=ACADEMIC,
        needs=(),
        read=read_pixray,
        classes=BAGS_OF_TWO_VIEWS,
        shares=(THREE_SPLITS,),
    ),
    "stcray": PublicSet(
        title="STCray",
        page="https://divs1159.github.io/STING-BEE",
        licence="see its page",
        needs=("STCray_TrainSet/Images", "STCray_TestSet/Images"),
        read=read_stcray,
        shares=(VALIDATION,),
    ),
    "gdxray": PublicSet(
        title="GDXray+, baggages",
        page="https://domingomery.ing.puc.cl/material/gdxray",
        licence=ACADEMIC,
        needs=("Baggages",),
        read=read_gdxray,
        classes=("item",),
        shares=(THREE_SPLITS,),
    ),
}
