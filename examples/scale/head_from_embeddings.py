"""Compute embeddings once and train a head: ``head_from_embeddings.py MUSIC WORK``, one subdirectory per genre."""

import sys
from pathlib import Path

import musgenre
from musgenre.datasets import holdout
from musgenre.scale import predict_collection, read_embeddings


def main(music: str, work: str) -> None:
    classifier = musgenre.GenreClassifier.from_pretrained()
    predict_collection(music, f"{work}/tags", model=classifier, embedding=True)

    # No file is decoded from here on, whatever the number of heads that are trained.
    labels = {path.relative_to(music).as_posix(): path.parent.name for path in Path(music).glob("*/*.*")}
    train, valid = holdout(read_embeddings(f"{work}/tags", labels, classifier=classifier))
    result = musgenre.finetune(train, valid=valid, head_epochs=30, head_learning_rate=0.01, progress=False)
    result.classifier.save_pretrained(f"{work}/model")
    print(f"{result.history[-1]['valid_accuracy']:.0%} accuracy on {len(valid)} validation tracks")


if __name__ == "__main__":
    main(*sys.argv[1:])
