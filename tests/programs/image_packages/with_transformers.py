# varies: TRANSFORMERS_VERBOSITY=error: print(transformers.logging.get_verbosity())
# varies: HF_HOME=/tmp/hf: print(transformers.utils.hub.TRANSFORMERS_CACHE)
# draws: print(transformers.utils.hub.SESSION_ID)
# preload: import transformers
# preload: import torch
# preload: from transformers import BertConfig, BertForSequenceClassification
# preload: from transformers import Trainer
import tempfile

import torch
from transformers import BertConfig, BertForSequenceClassification

torch.manual_seed(0)
config = BertConfig(
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
    vocab_size=100,
)
model = BertForSequenceClassification(config)
ids = torch.arange(40).reshape(2, 20)
output = model(ids, labels=torch.tensor([0, 1]))
output.loss.backward()
print(output.loss.item(), output.logits.tolist())
with tempfile.TemporaryDirectory() as folder:
    model.save_pretrained(folder)
    again = BertForSequenceClassification.from_pretrained(folder)
    print(again.eval()(ids).logits.tolist())
