# preload: from transformers import BertConfig
# preload: from transformers import BertForSequenceClassification
# preload: from transformers import Trainer
# preload: from transformers import TrainingArguments
import torch
from transformers import BertConfig, BertForSequenceClassification

config = BertConfig(
    vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
)
model = BertForSequenceClassification(config)
loss = model(input_ids=torch.ones(2, 4, dtype=torch.long), labels=torch.tensor([0, 1])).loss
loss.backward()
print(loss.shape)
