# preload: from transformers import BertConfig
# preload: from transformers import BertForSequenceClassification
# preload: from transformers import BertTokenizerFast
# preload: from transformers import pipeline
import json
import pathlib

from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast, pipeline

words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad"]
pathlib.Path("vocab.txt").write_text("\n".join(words))
config = BertConfig(
    vocab_size=len(words),
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=8,
)
model = BertForSequenceClassification(config)
said = pipeline("text-classification", model=model, tokenizer=BertTokenizerFast("vocab.txt"))
print(json.dumps(sorted(said("good bad")[0])))
