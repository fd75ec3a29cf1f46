"""Build, open and search sealed FAISS indexes; the only package that imports faiss."""
