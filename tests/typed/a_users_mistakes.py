"""Mistakes that a type checker finds: each line that ends in a comment has the error that is named there."""

import musgenre

classifier = musgenre.GenreClassifier.from_pretrained(devise="cpu")  # call-arg
classifier.predict(3)  # call-overload
label: str = classifier.predict("song.mp3").lable  # attr-defined
label = classifier.predict(["song.mp3"]).label  # attr-defined
musgenre.GenreClassifier.from_pretrained("org/name", revision=3)  # arg-type
musgenre.datasets.AudioFolder("music", group="artists.csv")  # call-arg
musgenre.scale.predict_collection("music", "tags", embeddings=True)  # call-arg
musgenre.fine_tune()  # attr-defined
tracks = musgenre.datasets.AudioFolder("music")
musgenre.finetune(tracks, epoch=3)  # call-arg
musgenre.finetune(tracks, epochs="3")  # arg-type
musgenre.finetune(tracks, optimizer="sgd")  # arg-type
options: musgenre.FinetuneOptions = {"seeed": 1}  # typeddict-unknown-key
musgenre.evaluate(classifier, tracks, train=tracks)  # call-arg
musgenre.cross_validate(tracks, job=2)  # call-arg
musgenre.cross_validate(tracks, groups="album")  # arg-type
