#!/bin/sh
echo "hello from a bundle"
