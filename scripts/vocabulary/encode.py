"""Encodes texts with two tokenizer.json and decodes them: python encode.py BEFORE AFTER TEXTS, JSON on stdout."""
import json
import sys

from tokenizers import Tokenizer

results = []
for path in sys.argv[1:3]:
    tokenizer = Tokenizer.from_file(path)
    texts = json.load(open(sys.argv[3], encoding='utf-8'))
    ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    results.append({'ids': ids, 'texts': [tokenizer.decode(found, skip_special_tokens=False) for found in ids]})
json.dump(results, sys.stdout)
