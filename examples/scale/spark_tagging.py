"""Predict a table of files with Spark: ``spark_tagging.py songs.parquet tags.parquet``, with a column ``path``."""

import sys

import numpy as np
from pyspark.ml.functions import predict_batch_udf
from pyspark.sql import SparkSession
from pyspark.sql.types import DoubleType, StringType, StructField, StructType

ROW = StructType(
    [
        StructField("label", StringType()),
        StructField("probability", DoubleType()),
        StructField("duration_seconds", DoubleType()),
        StructField("error", StringType()),
    ]
)


def make_predict():
    """Load the model; Spark calls this once per Python process."""
    from musgenre import GenreClassifier
    from musgenre.scale import predict_batch

    classifier = GenreClassifier.from_pretrained()

    def predict(paths: np.ndarray) -> dict[str, np.ndarray]:
        columns = predict_batch({"path": paths.tolist()}, classifier=classifier)
        columns["error"] = [error and f"{error['kind']}: {error['message']}" for error in columns["error"]]
        return {name: np.array(columns[name], dtype=object) for name in ROW.names}

    return predict


def main(source: str, output: str) -> None:
    spark = SparkSession.builder.appName("musgenre").getOrCreate()
    tag = predict_batch_udf(make_predict, return_type=ROW, batch_size=64)
    songs = spark.read.parquet(source)
    songs.withColumn("tags", tag("path")).select("path", "tags.*").write.parquet(output)
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
