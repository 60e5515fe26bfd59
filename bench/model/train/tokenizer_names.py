"""The special tokens, apart from tokenizer.py so that only data preparation needs the tokenizers package."""

BOS, EOS = 0, 1
SPECIAL = ["<\uff5cbegin\u2581of\u2581sentence\uff5c>", "<\uff5cend\u2581of\u2581sentence\uff5c>"]
