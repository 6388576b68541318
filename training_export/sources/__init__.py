"""The sources that can be exported: each kind of file or object, read and checked."""
