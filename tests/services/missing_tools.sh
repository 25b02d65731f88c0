#!/usr/bin/env bash
# Prints what `make test-integration` needs and this machine lacks, a line each, and how to get it; nothing if all is there.
there() { command -v "$1" > /dev/null || [ -x "/usr/sbin/$1" ]; }
compgen -G "/usr/lib/postgresql/*/bin/initdb" > /dev/null || there initdb || echo "PostgreSQL: apt-get install postgresql"
there chromium || there chromium-browser || there google-chrome || echo "Chromium: apt-get install chromium"
there nginx || echo "nginx: apt-get install nginx-light"
there openssl || echo "openssl: apt-get install openssl"
there ss || echo "ss: apt-get install iproute2"
there kubectl || echo "kubectl, version 1.27 or newer: https://kubernetes.io/docs/tasks/tools/"
