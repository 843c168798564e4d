#!/bin/sh
# Removes from the virtual environment $1 what a server never opens: 0.16 GB.
set -eu
cd "$1"/lib/python3*/site-packages

# The test suites of libraries, and sources that only a compiler or a type checker reads.
find . -type d -name tests -prune -exec rm -rf {} +
find . \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' \) -delete

# ONNX Runtime for programs in C: the extension module for Python contains its own copy.
rm -f onnxruntime/capi/libonnxruntime.so.*

# Descriptions of the services of AWS other than S3, and those that sign in to it.
if [ -d botocore/data ]; then
    find botocore/data -mindepth 1 -maxdepth 1 -type d \
        ! -name s3 ! -name sts ! -name 'sso*' ! -name signin -exec rm -rf {} +
fi
