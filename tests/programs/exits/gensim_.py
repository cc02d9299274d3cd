# preload: import gensim
import gensim

print(len(gensim.models.Word2Vec([["a", "b"]], vector_size=4, min_count=1, workers=1).wv))
