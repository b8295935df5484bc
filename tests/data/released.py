"""The data sets that have a card, each as a few small files in its released layout, and how they must be read.

One builder a set: what a downloader finds on disk, cut down to the cases that tell readings apart.
"""

import json
from collections.abc import Callable

Files = dict[str, str]  # path below the set's folder -> content
# Row id -> its label (emotion, words or text; numbers; AU values, or the set of AUs present), its split and its fold.
Expected = dict[str, tuple[object, str | None, str | None]]
Builder = Callable[[], tuple[Files, Expected]]
SETS: dict[str, Builder] = {}


def data_set(builder: Builder) -> Builder:
    SETS[builder.__name__] = builder
    return builder


def clips(*paths: str) -> Files:
    return dict.fromkeys(paths, "clip")


@data_set
def fer2013() -> tuple[Files, Expected]:
    train, valid, test = (
        "train/angry/Training_3908.jpg", "test/happy/PublicTest_91.jpg", "test/sad/PrivateTest_88.jpg",
    )  # fmt: skip
    return clips(train, valid, test), {
        train: ("anger", "train", None), valid: ("happiness", "valid", None), test: ("sadness", "test", None),
    }  # fmt: skip


@data_set
def own_folders() -> tuple[Files, Expected]:
    files = clips("Happy/ann/1.MP4", "sad/2.wav", "sad/notes.txt", "3.mp4")
    return files, {"Happy/ann/1.MP4": ("Happy", None, None), "sad/2.wav": ("sad", None, None)}


@data_set
def own_table() -> tuple[Files, Expected]:
    table = {"labels.csv": "clip,emotion,speaker,more\na/1.mp4,Happy,ann,x\n2.png,frustrated,,\n"}
    return clips("a/1.mp4", "2.png") | table, {"a/1.mp4": ("Happy", None, None), "2.png": ("frustrated", None, None)}


@data_set
def rafdb() -> tuple[Files, Expected]:
    pictures = clips(
        "basic/Image/aligned/train_00001_aligned.jpg",
        "basic/Image/aligned/test_0001_aligned.jpg",
        "basic/Image/original/train_00001.jpg",
    )
    labels = {"basic/EmoLabel/list_patition_label.txt": "train_00001.jpg 5\ntest_0001.jpg 1\n"}
    return pictures | labels, {"train_00001": ("sadness", "train", None), "test_0001": ("surprise", "test", None)}


@data_set
def affectnet() -> tuple[Files, Expected]:
    header = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal\n"
    lists, pictures = "Manually_Annotated_file_lists", "Manually_Annotated/Manually_Annotated_Images"
    train = "689/a.jpg,134,134,899,899,181.64;530.91,1,0.78,0.05\n103/b.jpg,1,1,9,9,1.5;2.5,10,-2,-2\n"
    files = clips(f"{pictures}/689/a.jpg", f"{pictures}/103/b.jpg", f"{pictures}/29/c.jpg", f"{pictures}/29/d.jpg") | {
        f"{lists}/training.csv": header + train,
        f"{lists}/validation.csv": header + "29/c.jpg,1,1,9,9,1.5;2.5,7,-0.4,0.1\n29/d.jpg,1,1,9,9,1.5;2.5,0,0,0\n",
    }
    return files, {
        "689/a.jpg": ("happiness", "train", None),
        "29/c.jpg": ("contempt", "valid", None),
        "29/d.jpg": ("neutral", "valid", None),
    }


@data_set
def ckplus() -> tuple[Files, Expected]:
    apex = "cohn-kanade-images/S005/001/S005_001_00000011.png"
    files = clips(apex, "cohn-kanade-images/S005/001/S005_001_00000001.png")
    return files | {"Emotion/S005/001/S005_001_00000011_emotion.txt": "   3.0000000e+00\n"}, {
        apex: ("disgust", None, "S005")
    }


@data_set
def ravdess() -> tuple[Files, Expected]:
    files = clips(
        "Actor_12/01-01-06-01-02-01-12.mp4",
        "Actor_12/02-01-06-01-02-01-12.mp4",  # without sound
        "Video_Speech_Actor_01/Actor_01/01-01-02-02-01-01-01.mp4",
        "Actor_01/01-02-03-01-01-01-01.mp4",  # sung
        "Actor_01/03-01-03-01-01-01-01.wav",
    )
    return files, {
        "01-01-06-01-02-01-12": ("fear", None, "12"), "01-01-02-02-01-01-01": ("calm", None, "01"),
    }  # fmt: skip


@data_set
def cremad() -> tuple[Files, Expected]:
    files = clips(
        "VideoFlash/1001_DFA_ANG_XX.flv", "VideoFlash/1091_IEO_NEU_HI.flv", "AudioWAV/1001_DFA_ANG_XX.wav"
    )  # fmt: skip
    return files, {"1001_DFA_ANG_XX": ("anger", None, "1001"), "1091_IEO_NEU_HI": ("neutral", None, "1091")}


@data_set
def tess() -> tuple[Files, Expected]:
    files = clips("OAF_angry/OAF_back_angry.wav", "YAF_pleasant_surprised/YAF_bar_ps.wav", "OA_bite_neutral.wav")
    return files, {
        "OAF_back_angry": ("anger", None, "OAF"),
        "YAF_bar_ps": ("surprise", None, "YAF"),
        "OA_bite_neutral": ("neutral", None, "OA"),
    }


@data_set
def dfew() -> tuple[Files, Expected]:
    files = clips("Clip/original/2.mp4", "Clip/original/15961.mp4")
    folds = {f"EmoLabel_DataSplit/test(single-labeled)/set_{n}.csv": "video_name,label\n" for n in range(1, 6)}
    folds["EmoLabel_DataSplit/test(single-labeled)/set_1.csv"] += "15961,4\n"
    folds["EmoLabel_DataSplit/test(single-labeled)/set_5.csv"] += "2,7\n"
    return files | folds, {"15961": ("anger", None, "1"), "2": ("fear", None, "5")}


def mafw_lists(kind: str, lines: dict[int, str]) -> Files:
    lists = {f"Train & Test Set/{kind}/no_caption/set_{n}/test.txt": lines.get(n, "") for n in range(1, 6)}
    return lists | clips("data/clips/00001.mp4", "data/clips/00151.mp4")


@data_set
def mafw() -> tuple[Files, Expected]:
    return mafw_lists("single", {2: "00001.mp4 helplessness\n00151.mp4 anger\n"}), {
        "00001.mp4": ("helplessness", None, "2"), "00151.mp4": ("anger", None, "2"),
    }  # fmt: skip


@data_set
def mafw_compound() -> tuple[Files, Expected]:
    return mafw_lists("compound", {1: "00001.mp4 neutral\n", 3: "00151.mp4 sadness_helplessness_disappointment\n"}), {
        "00001.mp4": (["neutral"], None, "1"),
        "00151.mp4": (["sadness", "helplessness", "disappointment"], None, "3"),
    }


@data_set
def ferv39k() -> tuple[Files, Expected]:
    files = clips("2_ClipsforFaceCrop/Action/Happy/0267.mp4", "2_ClipsforFaceCrop/Crime/Fear/0001.mp4")
    lists = {
        "4_setups/All_scenes/train_All.csv": "Action/Happy/0267 Happy\n",
        "4_setups/All_scenes/test_All.csv": "Crime/Fear/0001 Fear\n",
    }
    return files | lists, {
        "Action/Happy/0267": ("happiness", "train", None), "Crime/Fear/0001": ("fear", "test", None),
    }  # fmt: skip


@data_set
def meld() -> tuple[Files, Expected]:
    header = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n"
    times = '4,7,"00:20:57,256","00:21:00,049"\n'
    train, dev, test = (
        "train/train_splits/dia0_utt3.mp4",
        "dev/dev_splits_complete/dia0_utt0.mp4",
        "test/output_repeated_splits_test/dia0_utt0.mp4",
    )
    files = clips(train, dev, test) | {
        "train_sent_emo.csv": f'{header}1,"No, don\'t I beg of you!",Phoebe,fear,negative,0,3,{times}',
        "dev_sent_emo.csv": f"{header}1,Oh my God,Rachel,joy,positive,0,0,{times}",
        "test_sent_emo.csv": f"{header}1,Why do all you’re coffee mugs,Mark,surprise,positive,0,0,{times}",
    }
    return files, {train: ("fear", "train", None), dev: ("joy", "valid", None), test: ("surprise", "test", None)}


@data_set
def iemocap() -> tuple[Files, Expected]:
    def said(who: str, label: str) -> str:
        return f"[6.2901 - 8.2357]\t{who}\t{label}\t[2.5000, 2.0000, 3.0000]\nC-E2:\tNeutral;\t()\n\n"

    head = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
    files = {
        "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt": head
        + said("Ses01F_impro01_M013", "exc")
        + said("Ses01F_impro01_F000", "xxx"),
        "Session5/dialog/EmoEvaluation/Ses05M_script01_1b.txt": head + said("Ses05M_script01_1b_F000", "ang"),
        "Session5/dialog/EmoEvaluation/Categorical/Ses05M_script01_1b_e2_cat.txt": "Ses05M_script01_1b_F000 :Anger;\n",
    } | clips(
        "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M013.wav",
        "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav",
        "Session5/sentences/wav/Ses05M_script01_1b/Ses05M_script01_1b_F000.wav",
    )
    return files, {
        "Ses01F_impro01_M013": ("happiness", "train", "Session1"),
        "Ses05M_script01_1b_F000": ("anger", "test", "Session5"),
    }


@data_set
def mer2023() -> tuple[Files, Expected]:
    files = clips("train/sample_0.mp4", "test1/sample_1.mp4", "test2/sample_2.mp4", "test3/sample_3.mp4") | {
        "train-label.csv": "name,discrete,valence\nsample_0,happy,2.5\n",
        "test1-label.csv": "name,discrete,valence\nsample_1,worried,-5\n",
        "test2-label.csv": "name,discrete,valence\nsample_2,neutral,0\n",
        "test3-label.csv": "name,discrete,valence\nsample_3,angry,\n",
    }
    return files, {
        "sample_0": ("happiness", "train", None),
        "sample_1": ("worried", "test1", None),
        "sample_2": ("neutral", "test2", None),
        "sample_3": ("anger", "test3", None),
    }


@data_set
def mer2024() -> tuple[Files, Expected]:
    files = clips("video-labeled/sample_0.mp4", "video-unlabeled/samplenew3_1.mp4", "video-unlabeled/other.mp4") | {
        "label-disdim.csv": "name,discrete,valence\nsample_0,sad,-2\n",
        "semi-label.csv": "name,discrete\nsamplenew3_1,surprise\n",
    }
    return files, {"sample_0": ("sadness", "train", None), "samplenew3_1": ("surprise", "test", None)}


def sentiment_set(file: str, rows: dict[str, tuple[float, str]]) -> tuple[Files, Expected]:
    """The layout that the authors of MMSA gave four sets: clip (video/number) -> sentiment and part."""
    lines = ["video_id,clip_id,text,label,label_T,label_A,label_V,annotation,mode"]
    lines += [
        f'{key.split("/")[0]},{key.split("/")[1]},"well, I see",{value},,,,Neutral,{part}'
        for key, (value, part) in rows.items()
    ]
    files = clips(*(f"Raw/{key}.mp4" for key in rows)) | {file: "\n".join(lines) + "\n"}
    return files, {key: (value, part, None) for key, (value, part) in rows.items()}


@data_set
def mosi() -> tuple[Files, Expected]:
    return sentiment_set("label.csv", {"03bSnISJMiM/11": (2.4, "train"), "BI97DNYfe5I/1": (0.0, "test")})


@data_set
def mosei() -> tuple[Files, Expected]:
    return sentiment_set("label.csv", {"_0efYOjQYRc/2": (-0.667, "test"), "-3g5yACwYnA/10": (1.0, "valid")})


@data_set
def sims() -> tuple[Files, Expected]:
    return sentiment_set("label.csv", {"video_0001/0001": (-0.8, "train"), "video_0060/0013": (1.0, "test")})


@data_set
def simsv2() -> tuple[Files, Expected]:
    return sentiment_set("meta.csv", {"aqgy3_0001/00000": (0.2, "valid"), "aqgy4_0002/00010": (-0.2, "test")})


@data_set
def ovmerd() -> tuple[Files, Expected]:
    table = 'name,openset\nsample_00000000,"[serious, annoyed, happy]"\nsamplenew_00000001,[calm]\n'
    files = clips("video/sample_00000000.mp4", "video/samplenew_00000001.mp4", "video/not_in_it.mp4")
    return files | {"track2_train_ovmerd.csv": table}, {
        "sample_00000000": (["serious", "annoyed", "happy"], None, None),
        "samplenew_00000001": (["calm"], None, None),
    }


@data_set
def emer() -> tuple[Files, Expected]:
    table = 'name,chinese,english\nsample_00000000,在视频中，他笑了。,"In the video, he says ""how""\nand smiles."\n'
    return clips("video/sample_00000000.mp4") | {"final-EMER-reason.csv": table}, {
        "sample_00000000": ('In the video, he says "how"\nand smiles.', None, None)
    }


@data_set
def disfa() -> tuple[Files, Expected]:
    frames = [f"frames/{who}/{frame:05d}.jpg" for who in ("SN002", "SN032", "SN029") for frame in (1, 2)]
    values = {"SN002": {1: (0, 3), 12: (5, 1), 5: (4, 4)}, "SN032": {6: (0, 0)}, "SN029": {25: (2, 0)}}
    labels = {
        f"ActionUnit_Labels/{who}/{who}_au{au}.txt": f"1,{first}\n2,{second}\n"
        for who, aus in values.items()
        for au, (first, second) in aus.items()
    }
    return clips(*frames) | labels, {
        frames[0]: ({"AU1": 0, "AU12": 5}, "part1", None),  # AU5 is none of the eight
        frames[1]: ({"AU1": 3, "AU12": 1}, "part1", None),
        frames[2]: ({"AU6": 0}, "part1", None),
        frames[3]: ({"AU6": 0}, "part1", None),
        frames[4]: ({"AU25": 2}, "part3", None),
        frames[5]: ({"AU25": 0}, "part3", None),
    }


@data_set
def bp4d() -> tuple[Files, Expected]:
    numbers = (1, 2, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 22, 23, 24, 27, 28)
    header = ",".join(map(str, (0, *numbers)))
    coded = ",".join("9" if au == 24 else str(int(au in (6, 12))) for au in numbers)
    uncoded = ",".join("9" for _ in numbers)
    twelve = {f"AU{au}": int(au in (6, 12)) for au in (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23)}
    first, second = "2D+3D/F001/T1/2440.jpg", "2D+3D/M003/T8/0007.jpg"
    return clips(first, second, "2D+3D/F001/T1/2441.jpg") | {
        "AUCoding/AU_OCC/F001_T1.csv": f"{header}\n2440,{coded}\n2441,{uncoded}\n",
        "AUCoding/AU_OCC/M003_T8.csv": f"{header}\n7,{coded}\n",
    }, {first: (twelve, "part1", None), second: (twelve, "part3", None)}


@data_set
def rafau() -> tuple[Files, Expected]:
    labels = {"RAFAU_label.txt": "0001.jpg 1+4+L10 \n0002.jpg null\n0003.jpg 12\n"}
    pictures = clips("aligned/0001_aligned.jpg", "aligned/0002_aligned.jpg", "aligned/0003_aligned.jpg")
    return pictures | labels, {"0001": ({"AU1", "AU4", "AU10"}, None, None), "0003": ({"AU12"}, None, None)}


def fea20k_list(row: dict[str, object]) -> str:
    return json.dumps({"id": "7", "dataset": "x", "question": "How?", "description": "Calm."} | row) + "\n"


@data_set
def fea20k_aus() -> tuple[Files, Expected]:
    files = clips("images/FABA/a.jpg", "images/BP4D/F001/b.jpg") | {
        "FABA-Test.jsonl": fea20k_list({"image": "a.jpg", "AUs": ["AU1", "AU4"], "labels": ["sadness"]}),
        "BP4D-Test.jsonl": fea20k_list({"image": "F001/b.jpg", "AUs": ["AU6", "AU12"], "labels": []}),
        "DISFA-Test.jsonl": "",
        "RAF-AU-Test.jsonl": "",
    }
    return files, {"FABA/7": ("sadness", None, "FABA"), "BP4D/7": ({"AU6", "AU12"}, None, "BP4D")}


@data_set
def fea20k_emotions() -> tuple[Files, Expected]:
    files = clips("images/RAF-DB/a.jpg") | {
        "FER2013-Test.jsonl": "",
        "AffectNet-Test.jsonl": "",
        "RAF-DB-Test.jsonl": fea20k_list({"image": "a.jpg", "AUs": [], "labels": ["fear"]}),
    }
    return files, {"RAF-DB/7": ("fear", None, "RAF-DB")}


@data_set
def dfec() -> tuple[Files, Expected]:
    captions = [
        {"id": "0", "video": "DFEW/videos/2961.mp4", "caption": "A man blinks.\nThen his mouth opens."},
        {"id": "14", "video": "RAVDESS/data/Actor_24/01-01-02-02-01-02-24.mp4", "caption": "She speaks."},
    ]
    return clips(*(row["video"] for row in captions)) | {"test.json": json.dumps(captions)}, {
        row["id"]: (row["caption"], "test", None) for row in captions
    }


@data_set
def bah() -> tuple[Files, Expected]:
    lists = "dataset-splits/video-level/BAH_DB/split-0"
    first = "Videos/82711/Visite_1/82711_Question_1_2024-11-18_16-07-42_Video.mp4"
    second = "Videos/82593/Visite_1/82593_Question_2_2024-10-02 16-27-50_Video-DESKTOP.mp4"
    files = clips(f"BAH_DB/{first}", f"BAH_DB/{second}") | {
        f"{lists}/train.txt": f'{first},0,"Hello?" Well, I said, "no.\n',
        f"{lists}/val.txt": "",
        f"{lists}/test.txt": f"{second},1,Eat.\n",
    }
    return files, {
        first: ("no ambivalence or hesitancy", "train", None), second: ("ambivalence or hesitancy", "test", None),
    }  # fmt: skip


@data_set
def affwild2() -> tuple[Files, Expected]:
    rated = ["valence,arousal", "-0.5,0.25", *["0,0"] * 14, "-5,-5", *["0,0"] * 14, "1,0.9"]
    names = [f"cropped_aligned/1-30-1280x720/{frame:05d}.jpg" for frame in range(1, 32)]
    other = "cropped_aligned/video2_left/00001.jpg"
    return clips(*names, other) | {
        "VA_Estimation_Challenge/Train_Set/1-30-1280x720.txt": "\n".join(rated) + "\n",
        "VA_Estimation_Challenge/Validation_Set/video2_left.txt": "valence,arousal\n0.1,0.2\n",
    }, {
        names[0]: ((-0.5, 0.25), "train", None), names[30]: ((1.0, 0.9), "train", None),
        other: ((0.1, 0.2), "valid", None),
    }  # fmt: skip
