# preload: import spacy
import spacy

nlp = spacy.blank("en")
nlp.add_pipe("sentencizer")
print([token.text for token in nlp("It is so. Is it?")])
