"""LSTM and GRU models."""

import torch
import torch.nn as nn
import torch.nn.functional as F

from .case import case, normal, tokens


class LSTMTagger(nn.Module):
    def __init__(self, vocab_size=50, embedding_dim=20, hidden_dim=14, tagset_size=9):
        super().__init__()
        self.hidden_dim = hidden_dim
        self.word_embeddings = nn.Embedding(vocab_size, embedding_dim)
        self.lstm = nn.LSTM(embedding_dim, hidden_dim, num_layers=2, batch_first=True, bidirectional=True)
        self.hidden2tag = nn.Linear(hidden_dim * 2, tagset_size)

    def forward(self, sentence):
        embeds = self.word_embeddings(sentence)
        lstm_out, _ = self.lstm(embeds)
        tag_space = self.hidden2tag(lstm_out)
        return F.log_softmax(tag_space, dim=-1)


class GRUClassifier(nn.Module):
    def __init__(self, vocab_size=41, embedding_dim=18, hidden_size=26, num_layers=2, num_classes=6):
        super().__init__()
        self.num_layers = num_layers
        self.hidden_size = hidden_size
        self.embedding = nn.Embedding(vocab_size, embedding_dim)
        self.gru = nn.GRU(embedding_dim, hidden_size, num_layers, batch_first=True)
        self.fc = nn.Linear(hidden_size, num_classes)

    def forward(self, x):
        x = self.embedding(x)
        h0 = torch.zeros(self.num_layers, x.size(0), self.hidden_size, dtype=x.dtype, device=x.device)
        _, h = self.gru(x, h0)
        return self.fc(h[-1])


class CRNN(nn.Module):
    """Text recognition: a convolution's columns are the LSTM's time steps."""

    def __init__(self, num_classes=12):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, 3, stride=(2, 1), padding=1)
        self.conv2 = nn.Conv2d(10, 14, 3, stride=2, padding=1)
        self.bn2 = nn.BatchNorm2d(14)
        self.rnn = nn.LSTM(14 * 3, 22, bidirectional=True)
        self.fc = nn.Linear(44, num_classes)

    def forward(self, x):
        x = F.relu(self.bn2(self.conv2(F.relu(self.conv1(x)))))
        b, c, h, w = x.size()
        x = x.permute(3, 0, 1, 2).contiguous().view(w, b, c * h)
        x, _ = self.rnn(x)
        t, b, h = x.size()
        return self.fc(x.view(t * b, h)).view(t, b, -1)


class CellLoop(nn.Module):
    def __init__(self, input_size=8, hidden_size=20):
        super().__init__()
        self.hidden_size = hidden_size
        self.cell1 = nn.LSTMCell(input_size, hidden_size)
        self.cell2 = nn.GRUCell(hidden_size, 15)
        self.linear = nn.Linear(15, 3)

    def forward(self, x):
        outputs = []
        h1 = x.new_zeros(x.size(0), self.hidden_size)
        c1 = x.new_zeros(x.size(0), self.hidden_size)
        h2 = x.new_zeros(x.size(0), 15)
        for step in x.split(1, dim=1):
            h1, c1 = self.cell1(step.squeeze(1), (h1, c1))
            h2 = self.cell2(h1, h2)
            outputs += [self.linear(h2)]
        return torch.stack(outputs, dim=1)


CASES = (
    case("lstm_tagger", LSTMTagger, tokens(50, 3, 12)),
    case("gru_classifier", GRUClassifier, tokens(41, 4, 9)),
    case("crnn", CRNN, normal(2, 1, 12, 20)),
    case("recurrent_cells", CellLoop, normal(3, 6, 8)),
)
