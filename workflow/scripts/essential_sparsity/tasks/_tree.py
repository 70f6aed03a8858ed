"""A decoder that writes an expression as a tree, from goals to parts of goals, over the states of an encoder.

GTS (Xie and Sun 2019, "A Goal-Driven Tree-Structured Neural Model for Math Word Problems"), as Patel et al. 2021 and
SMC-Bench (Liu et al. 2023) put it on a pre-trained encoder: a recurrent network of two layers reads the encoder's states; the
root's goal is what it says of the whole text. A goal q attends to the states (context c) and scores every token y, an operator,
a constant or a number of the problem, whose embedding e is the state at its place. An operator splits its goal: the left
part follows from q, c and e, the right part from these and the left part's tree t, once that is complete; trees are merged from the leaves up.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
import transformers
from torch import nn
from transformers.utils import ModelOutput

HIDDEN = 512  # width of the recurrent network and of the decoder, as published
DEPTH = 2  # layers of the recurrent network
DROPOUT = 0.5
BEAMS = 5
MAX_OUTPUT = 45  # tokens of the longest expression
IGNORED = -100  # label of a step that an expression has not


class Gated(nn.Module):
    """tanh(A x + a) · σ(B x + b) of some vectors one after the other, x."""

    def __init__(self, width: int, size: int, dropout: float):
        super().__init__()
        self.content, self.gate = nn.Linear(width, size), nn.Linear(width, size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, *vectors: torch.Tensor) -> torch.Tensor:
        """(…, size) of vectors (…, parts of width)."""
        given = self.dropout(torch.cat(vectors, dim=-1))
        return torch.tanh(self.content(given)) * torch.sigmoid(self.gate(given))


class Matched(nn.Module):
    """v · tanh(A x + B y + a): how well each of some x goes with each of some y."""

    def __init__(self, width: int, size: int):
        super().__init__()
        self.asking, self.asked = nn.Linear(width, size), nn.Linear(size, size, bias=False)
        self.weight = nn.Linear(size, 1, bias=False)

    def forward(self, x: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """(n, k, m) of x (n, k, width) and keys = `asked(y)` (n, m, size)."""
        return self.weight(torch.tanh(self.asking(x)[:, :, None] + keys[:, None]))[..., 0]


@dataclass(frozen=True)
class Text:
    """What the decoder reads of n problems, the first dimension of all tensors.

    `states` (n, tokens, size) where `mask` (n, tokens) is true, with their keys for attention; `words` (n, symbols + numbers, size):
    embeddings of the tokens of expressions, of which `known` (n, symbols + numbers) exist, with keys; `root` (n, size).
    """

    states: torch.Tensor
    mask: torch.Tensor
    state_keys: torch.Tensor
    words: torch.Tensor
    known: torch.Tensor
    word_keys: torch.Tensor
    root: torch.Tensor

    def of(self, problems: list[int]) -> "Text":
        """Some of the problems."""
        return Text(*(getattr(self, field.name)[problems] for field in fields(self)))


@dataclass(frozen=True)
class Tree:
    """An expression as far as it is written, in prefix order.

    `pending`: operators whose operands are not complete, as (place, place of the right operand or None while the left one is
    written). `completed`: operators that the last token completed, from the inside out, as (place, place of the right operand).
    """

    tokens: tuple[int, ...] = ()
    pending: tuple[tuple[int, int | None], ...] = ()
    completed: tuple[tuple[int, int], ...] = ()

    @property
    def finished(self) -> bool:
        """Whether it is a whole expression."""
        return bool(self.tokens) and not self.pending

    @property
    def goals(self) -> int:
        """Operands that are still to come, the next token's included."""
        return 0 if self.finished else 1 + sum(right is None for _, right in self.pending)

    def grown(self, token: int, operator: bool) -> "Tree":
        """With one more token; a finished one stays as it is."""
        if self.finished:
            return replace(self, completed=())
        place, tokens = len(self.tokens), (*self.tokens, token)
        if operator:
            return Tree(tokens, (*self.pending, (place, None)))
        pending, completed = list(self.pending), []
        while pending and pending[-1][1] is not None:
            completed.append(pending.pop())
        if pending:
            pending[-1] = (pending[-1][0], place + 1)
        return Tree(tokens, tuple(pending), tuple(completed))


class Decoder(nn.Module):
    """The parameters of the steps, and the steps; `operators`: how many of the `symbols` are operators, the first ones."""

    def __init__(self, size: int, operators: int, symbols: int, dropout: float):
        super().__init__()
        self.operators = operators
        self.symbols = nn.Embedding(symbols, size)
        self.attention, self.score = Matched(size, size), Matched(2 * size, size)
        self.left, self.right = Gated(3 * size, size, dropout), Gated(3 * size, size, dropout)
        self.left_goal, self.right_goal = Gated(size, size, dropout), Gated(2 * size, size, dropout)
        self.merge = Gated(3 * size, size, dropout)
        self.dropout = nn.Dropout(dropout)

    def read(self, states: torch.Tensor, mask: torch.Tensor, places: torch.Tensor, root: torch.Tensor) -> Text:
        """`places` (n, numbers): where in the text each number of the problem stands, -1 for none."""
        numbers = states[torch.arange(len(states), device=states.device)[:, None], places.clamp(min=0)]
        words = torch.cat([self.symbols.weight.expand(len(states), -1, -1), numbers], dim=1)
        known = torch.cat([places.new_ones(len(places), self.symbols.num_embeddings) > 0, places >= 0], dim=1)
        keys = self.attention.asked(states), self.score.asked(self.dropout(words))
        return Text(states, mask, keys[0], words, known, keys[1], root)

    def context(self, goals: torch.Tensor, text: Text) -> torch.Tensor:
        """What goals (n, k, size) attend to: (n, k, size)."""
        energy = self.attention(goals, text.state_keys).masked_fill(~text.mask[:, None], -math.inf)
        return energy.softmax(dim=-1) @ text.states

    def scores(self, goals: torch.Tensor, contexts: torch.Tensor, text: Text) -> torch.Tensor:
        """How well each token meets goals: (n, k, symbols + numbers), -inf for numbers that a problem has not."""
        given = self.dropout(torch.cat([goals, contexts], dim=-1))
        return self.score(given, text.word_keys).masked_fill(~text.known[:, None], -math.inf)

    def logits(self, text: Text, labels: torch.Tensor) -> torch.Tensor:
        """Scores of the tokens at every step of given expressions (labels (n, steps)): (n, steps, symbols + numbers)."""
        trees, found = Trees(self, text), []
        for tokens in labels.clamp(min=0).split(1, dim=1):
            found.append(trees.scores())
            trees.grow(torch.zeros_like(tokens), tokens)
        return torch.cat(found, dim=1)

    @torch.no_grad()
    def search(self, text: Text, beams: int = BEAMS, longest: int = MAX_OUTPUT) -> list[tuple[float, tuple[int, ...]]]:
        """The likeliest expression of each problem that a beam search finds, with its log-likelihood: (-inf, ()) for none.

        Whole expressions stay in the beam, and a problem is done when one is its best: the others can only get less
        likely. An operator whose operands would not fit into `longest` tokens is not offered. Scores that are no numbers
        are those of no expression.
        """
        found: list[tuple[float, tuple[int, ...]]] = [(-math.inf, ())] * len(text.root)
        trees, problems = Trees(self, text), list(range(len(found)))
        totals = text.root.new_zeros(len(found), 1)
        for step in range(longest):
            offered = trees.scores().log_softmax(dim=-1)
            room = [[tree.goals + step + 2 <= longest for tree in row] for row in trees.trees]
            finished = totals.new_tensor([[tree.finished for tree in row] for row in trees.trees]).bool()
            offered[..., : self.operators].masked_fill_(~totals.new_tensor(room).bool()[..., None], -math.inf)
            offered[finished] = -math.inf
            offered[..., 0].masked_fill_(finished, 0.0)
            each = totals[..., None] + offered
            each = each.masked_fill(each.isnan(), -math.inf).flatten(1)
            totals, chosen = each.topk(min(beams, each.shape[1]), dim=1)
            trees.grow(chosen // offered.shape[-1], chosen % offered.shape[-1])
            best, left = totals[:, 0].tolist(), []
            for place, problem in enumerate(problems):
                if best[place] == -math.inf:
                    continue
                if trees.trees[place][0].finished:
                    found[problem] = (best[place], trees.trees[place][0].tokens)
                else:
                    left.append(place)
            if not left:
                break
            if len(left) < len(problems):
                totals, problems = totals[left], [problems[place] for place in left]
                trees.keep(left)
        return found


class Trees:
    """Expressions in the making, k for each of n problems, with what the decoder needs of them.

    `goals`, `contexts` (n, k, size): of the next token. By place in the expression, (n, k, places, size): `words` (embeddings
    of the tokens), `trees_of` (of the parts that begin there, once these are complete), `rights` (what is known of an operator's right operand).
    """

    def __init__(self, decoder: Decoder, text: Text):
        self.decoder, self.text = decoder, text
        self.trees = [[Tree()] for _ in text.root]
        self.goals = text.root[:, None]
        self.contexts = decoder.context(self.goals, text)
        self.words = self.trees_of = self.rights = text.root.new_zeros(len(text.root), 1, 0, text.root.shape[1])

    def scores(self) -> torch.Tensor:
        """Of every token as the next: (n, k, symbols + numbers)."""
        return self.decoder.scores(self.goals, self.contexts, self.text)

    def grow(self, parents: torch.Tensor, tokens: torch.Tensor) -> None:
        """Go on with new hypotheses (n, k): which of the old ones each continues, and by which token."""
        decoder, problems = self.decoder, torch.arange(len(parents), device=parents.device)[:, None]
        words = self.text.words[problems, tokens]
        goals, contexts, *kept = (
            before[problems, parents] for before in (self.goals, self.contexts, self.words, self.trees_of, self.rights)
        )
        self.trees = [
            [row[parent].grown(token, token < decoder.operators) for parent, token in zip(*pair, strict=True)]
            for row, *pair in zip(self.trees, parents.tolist(), tokens.tolist(), strict=True)
        ]
        after, rights = torch.zeros_like(goals), torch.zeros_like(goals)
        if at := self._indices(lambda tree: () if tree.pending and tree.pending[-1][1] is None else None):
            split = goals[at], contexts[at], words[at]
            after[at] = decoder.left_goal(decoder.left(*split))
            rights[at] = decoder.right(*split)
        self.words, self.trees_of, self.rights = (
            torch.cat([before, new[:, :, None]], dim=2)
            for before, new in zip(kept, (words, words, rights), strict=True)
        )
        for depth in range(max(len(tree.completed) for row in self.trees for tree in row)):
            i, j, operator, right = self._indices(lambda tree, depth=depth: next(iter(tree.completed[depth:]), None))
            parts = self.words[i, j, operator], self.trees_of[i, j, operator + 1], self.trees_of[i, j, right]
            self.trees_of[i, j, operator] = decoder.merge(*parts)
        if at := self._indices(lambda tree: tree.pending[-1][:1] if tree.pending and tree.pending[-1][1] else None):
            i, j, operator = at
            after[i, j] = decoder.right_goal(self.rights[i, j, operator], self.trees_of[i, j, operator + 1])
        self.goals, self.contexts = after, decoder.context(after, self.text)

    def _indices(self, told: Callable[[Tree], tuple[int, ...] | None]) -> tuple[torch.Tensor, ...]:
        """(problem, hypothesis, …) of the trees that are told something of, as tensors; nothing where there is none."""
        rows = [
            (i, j, *more)
            for i, row in enumerate(self.trees)
            for j, tree in enumerate(row)
            if (more := told(tree)) is not None
        ]
        return tuple(torch.tensor(rows, device=self.goals.device).T) if rows else ()

    def keep(self, problems: list[int]) -> None:
        """Go on with some of the problems alone."""
        self.trees, self.text = [self.trees[problem] for problem in problems], self.text.of(problems)
        self.goals, self.contexts, self.words, self.trees_of, self.rights = (
            kept[problems] for kept in (self.goals, self.contexts, self.words, self.trees_of, self.rights)
        )


@dataclass
class Output(ModelOutput):
    """`loss`: mean negative log-likelihood of a token, where expressions are given. `logits` (n, symbols + numbers): of the first."""

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    text: Text | None = None


class TreeModel(transformers.PreTrainedModel):
    """A pre-trained encoder, a recurrent network over its states, and the decoder: new but for the encoder.

    `operators` and `symbols`: ids that are operators, and ids that are no numbers. Computes in float32 what comes after the encoder.
    """

    base_model_prefix = "encoder"
    accepts_loss_kwargs = False
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = True  # the encoder has found its own way

    def __init__(
        self,
        encoder: transformers.PreTrainedModel,
        operators: int,
        symbols: int,
        size: int,
        dropout: float,
    ):
        super().__init__(copy.deepcopy(encoder.config))
        self.encoder, self.supports_gradient_checkpointing = encoder, encoder.supports_gradient_checkpointing
        width = encoder.config.hidden_size
        self.reader = nn.GRU(width, size, DEPTH, batch_first=True, dropout=dropout, bidirectional=True)
        self.decoder = Decoder(size, operators, symbols, dropout)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        places: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
    ) -> Output:
        """`input_ids`, `attention_mask` (n, tokens), padded at the end; `places` (n, numbers) and `labels` (n, steps): the
        place of each number among the tokens, or -1, and the ids of the expression, or IGNORED."""
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **types).last_hidden_state
        with torch.autocast(states.device.type, enabled=False):
            text = self.read(states.float(), attention_mask, places)
            if labels is None:
                return Output(logits=Trees(self.decoder, text).scores()[:, 0], text=text)
            logits = self.decoder.logits(text, labels)
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
            return Output(loss=loss, logits=logits[:, 0])

    def read(self, states: torch.Tensor, mask: torch.Tensor, places: torch.Tensor) -> Text:
        """What the decoder reads of the encoder's states (n, tokens, width): both directions of the recurrent network, added."""
        lengths = mask.sum(dim=1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(states, lengths, batch_first=True, enforce_sorted=False)
        read, last = self.reader(packed)
        both, _ = nn.utils.rnn.pad_packed_sequence(read, batch_first=True, total_length=states.shape[1])
        return self.decoder.read(sum(both.chunk(2, dim=-1)), mask.bool(), places, last[-2] + last[-1])
