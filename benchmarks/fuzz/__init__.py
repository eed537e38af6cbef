"""Differential fuzzing of the HTTP/1.1 parser: what we accept, two other readers have to read as we do.

``python -m benchmarks.fuzz`` makes messages by a grammar, harms them, and gives them to our parser and, where that
accepts, to h11 and to aiohttp's parser in pure Python; neither shares code with llhttp. A difference that no class of
``differences`` explains ends in exit code 1 and is printed with the smallest input that shows it: that input becomes a
seed. What we refuse and others accept is no difference.

============  =======================================================================================================
reading       what a reader makes of a stream, as values that can be compared
corpus        the seeds, kept as readable text beside the test that pins what we make of each
words         what the grammar is made of
inputs        a grammar of requests and responses, and the ways to harm what it gives
ours          our parser, fed as the data path feeds it, whole and in pieces
others        h11 and aiohttp
outgoing      what the sidecar makes of an accepted message for the next hop, read by the others once more
differences   where two readings differ, and the differences that are known, each with the reason why it is harmless
trial         one input through all of it, and the figures of many
page          the figures as text
============  =======================================================================================================
"""
