"""Makes the missing buckets of an object store: ``python -m selftune.kubernetes.buckets NAME...``."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(names: Sequence[str] | None = None) -> int:
    """Makes buckets in the store that ``AWS_ENDPOINT_URL`` names."""
    import os

    from pyarrow.fs import AwsStandardS3RetryStrategy, FileType, S3FileSystem

    store = S3FileSystem(
        endpoint_override=os.environ["AWS_ENDPOINT_URL"],
        allow_bucket_creation=True,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=10),  # the store may have just been started
    )
    for name in sys.argv[1:] if names is None else names:
        if store.get_file_info(name).type == FileType.NotFound:
            store.create_dir(name)
            print(f"{name}: made")
        else:
            print(f"{name}: is there")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
