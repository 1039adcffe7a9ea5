from .batches import predict_batch as predict_batch
from .collection import predict_collection as predict_collection
from .embeddings import read_embeddings as read_embeddings
from .options import CollectionOptions as CollectionOptions
from .options import CollectionReport as CollectionReport
from .schema import SCHEMA_VERSION as SCHEMA_VERSION
