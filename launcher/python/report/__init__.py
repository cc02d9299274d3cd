"""What --record and --report write, made of the journal that the engine has kept.

Reading order: journal (what came), model (times, memory and threads of modules), preload_file
(--record), speedscope and page (--report).
"""
