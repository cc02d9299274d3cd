# preload: from sentence_transformers import SentenceTransformer, models
# preload: from transformers import BertConfig, BertModel, BertTokenizerFast
import pathlib

from sentence_transformers import SentenceTransformer, models
from transformers import BertConfig, BertModel, BertTokenizerFast

words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad"]
pathlib.Path("vocab.txt").write_text("\n".join(words))
config = BertConfig(
    vocab_size=len(words),
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=8,
)
BertModel(config).save_pretrained("tiny")
BertTokenizerFast("vocab.txt").save_pretrained("tiny")
word = models.Transformer("tiny")
print(SentenceTransformer(modules=[word, models.Pooling(8)], device="cpu").encode("good").shape)
