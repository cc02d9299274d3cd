# preload: import nltk
import nltk

print(nltk.stem.PorterStemmer().stem("running"), nltk.edit_distance("a", "ab"))
