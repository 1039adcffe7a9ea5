"""Hear a collection once, then train heads on it: ``head_from_embeddings.py MUSIC WORK``, a sub-folder a genre."""

import sys
from pathlib import Path

import musgenre
from musgenre.datasets import holdout
from musgenre.scale import predict_collection, read_embeddings


def main(music: str, work: str) -> None:
    classifier = musgenre.GenreClassifier.from_pretrained()
    predict_collection(music, f"{work}/tags", model=classifier, embedding=True)

    # From here on no song is decoded, however many heads are tried.
    labels = {path.relative_to(music).as_posix(): path.parent.name for path in Path(music).glob("*/*.*")}
    train, valid = holdout(read_embeddings(f"{work}/tags", labels, classifier=classifier))
    result = musgenre.finetune(train, valid=valid, head_epochs=30, head_learning_rate=0.01, progress=False)
    result.classifier.save_pretrained(f"{work}/model")
    print(f"{result.history[-1]['valid_accuracy']:.0%} of {len(valid)} songs that were held back are right.")


if __name__ == "__main__":
    main(*sys.argv[1:])
