"""Load Hugging Face checkpoints without trusting them."""

from inc_laaciq.checkpoint.digest import check_unchanged, fingerprint, sha256_of_files, verify_manifest
from inc_laaciq.checkpoint.finite import find_nonfinite
from inc_laaciq.checkpoint.folder import FolderKind, folder_kind
from inc_laaciq.checkpoint.load import LoadedModel, load_model
from inc_laaciq.checkpoint.safetensors_file import Header, TensorEntry, read_header
from inc_laaciq.checkpoint.tokenizer import load_tokenizer, tokenizer_sha256

__all__ = [
    "FolderKind",
    "Header",
    "LoadedModel",
    "TensorEntry",
    "check_unchanged",
    "find_nonfinite",
    "fingerprint",
    "folder_kind",
    "load_model",
    "load_tokenizer",
    "read_header",
    "sha256_of_files",
    "tokenizer_sha256",
    "verify_manifest",
]
