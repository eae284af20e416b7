"""Gradients of frozen weights, summed over batches: from the inputs and the output gradients of each module."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, final

import torch

from rankselect.calibration.loss_batches import finite_loss
from rankselect.errors import ModelError, first_sentence
from rankselect.models.evaluation_mode import evaluating
from rankselect.models.layers import unwrapped, widths
from rankselect.models.trunk import input_device

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import nn

    from rankselect.calibration.loss_batches import LossBatch, LossBatches

__all__ = ["GradientSums"]

_SHORT = 0.6  # rows whose Gram matrices cost less than their gradients, memory included


@final
class GradientSums:
    """The gradient of the mean loss by the weight of each module, of the two halves of the rows.

    A weight of any storage has one, a 4-bit weight too: it is the product of the output's gradient and the input, which
    hooks see. No parameter needs a gradient, and none gets one.

    Memory: two float32 matrices for each of these modules, and the activations of one batch.

    Args:
        model: The model.
        modules: ``{name: module}`` of the modules.

    Attributes:
        sums: ``{name: (2, d_out, d_in) float32}``: the gradient of each half's mean loss.
        squares: ``{name: the mean over rows of the squared norm of the gradient of the row's mean loss}``.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.calibration.loss_batches import loss_batches
        >>> from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer
        >>> model = tiny_model()
        >>> name = "model.layers.0.self_attn.q_proj"
        >>> found = GradientSums(model, {name: model.get_submodule(name)})
        >>> found.read(loss_batches(rs.Calibration(model, tiny_tokenizer(), tiny_texts(8))))
        >>> found.sums[name].shape
        torch.Size([2, 32, 32])
    """

    def __init__(self, model: nn.Module, modules: Mapping[str, nn.Module]) -> None:
        self._model = model
        self._modules = modules
        self.sums: dict[str, torch.Tensor] = {}
        self.squares = dict.fromkeys(modules, 0.0)
        self._half = 0
        self._factor = 0.0  # of the batch's mean loss in that of its half
        self._row_factors = torch.empty(0)  # of the batch's mean loss in that of each row
        self._length = 0
        self._without: set[str] = set()  # modules that ran and have not got a gradient

    def read(self, batches: LossBatches, advance: Any = None) -> None:
        """Run all batches forwards and backwards.

        Args:
            batches: The batches.
            advance: Called with the number of rows after each batch.

        Raises:
            ModelError: If the loss is not finite, or gradients do not pass through the model's layers.
        """
        device = input_device(self._model)
        with self._hooked():
            for batch in batches.batches:
                self._half = batch.half
                self._length = batch.inputs["input_ids"].shape[1]
                n_tokens = torch.tensor(batch.n_tokens, dtype=torch.float32)
                self._factor = float(n_tokens.sum()) / batches.tokens_of(batch.half)
                self._row_factors = n_tokens.sum() / n_tokens / batches.n_rows**0.5
                self._run(batch, device)
                if advance is not None:
                    advance(len(batch.n_tokens))
        if self._without:
            raise _no_gradients(f"no gradient reaches {min(self._without)}")

    def _run(self, batch: LossBatch, device: torch.device) -> None:
        loss: Any = finite_loss(self._model, batch, device)
        try:
            loss.backward()
        except (RuntimeError, NotImplementedError) as error:
            raise _no_gradients(first_sentence(error)) from error

    @contextmanager
    def _hooked(self) -> Iterator[None]:
        """Hooks on the modules, no parameter with a gradient, and everything back at the end."""
        with ExitStack() as stack:
            stack.enter_context(evaluating(self._model))
            stack.enter_context(_frozen(self._model))
            stack.enter_context(torch.enable_grad())
            embedding = _embedding(self._model)
            stack.callback(embedding.register_forward_hook(_require_gradient).remove)
            for name, module in self._modules.items():
                d_in, d_out = widths(module)
                if name not in self.sums:
                    where = next(module.parameters()).device
                    self.sums[name] = torch.zeros(2, d_out, d_in, device=where)
                stack.callback(module.register_forward_hook(self._watch(name), with_kwargs=True).remove)
            yield

    def _watch(self, name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: torch.Tensor) -> None:
            if not output.requires_grad:
                raise _no_gradients(f"the output of {name} has none")
            self._without.add(name)
            given = (*args, *kwargs.values())[0].detach()
            version = given._version  # noqa: SLF001  (documented in PyTorch's notes on autograd)
            add = self._add_tokens if hasattr(module, "num_embeddings") else self._add

            def use(gradient: torch.Tensor) -> None:
                if given._version != version:  # noqa: SLF001
                    raise _no_gradients(f"the input of {name} is overwritten")
                self._without.discard(name)
                add(name, given, gradient)

            output.register_hook(use)

        return hook

    @torch.no_grad()
    def _add(self, name: str, given: torch.Tensor, gradient: torch.Tensor) -> None:
        total = self.sums[name][self._half]
        x, g = given.float().to(total.device), gradient.float().to(total.device)
        rows, length, d_in, d_out = len(self._row_factors), self._length, x.shape[-1], g.shape[-1]
        if x.numel() != rows * length * d_in:  # an expert sees tokens without their rows: the batch stands for its rows
            product = g.reshape(-1, d_out).T @ x.reshape(-1, d_in)
            total.add_(product, alpha=self._factor)
            self.squares[name] += float(product.square().sum()) * float((self._row_factors**2).sum())
            return
        x, g = x.reshape(rows, length, d_in), g.reshape(rows, length, d_out)
        if length * (d_in + d_out) < _SHORT * d_in * d_out:  # without the gradient of each row
            total.addmm_(g.reshape(-1, d_out).T, x.reshape(-1, d_in), alpha=self._factor)
            self.squares[name] += self._weighted(((x @ x.mT) * (g @ g.mT)).sum(dim=(1, 2)))
            return
        squares = []
        for own_x, own_g in zip(x, g, strict=True):
            product = own_g.T @ own_x
            total.add_(product, alpha=self._factor)
            squares.append(product.square().sum())
        self.squares[name] += self._weighted(torch.stack(squares))

    @torch.no_grad()
    def _add_tokens(self, name: str, ids: torch.Tensor, gradient: torch.Tensor) -> None:
        total = self.sums[name][self._half]
        ids, g = ids.to(total.device), gradient.float().to(total.device)
        total.index_add_(1, ids.reshape(-1), g.reshape(-1, g.shape[-1]).T, alpha=self._factor)
        same = (ids[:, :, None] == ids[:, None, :]).float()
        self.squares[name] += self._weighted((same * (g @ g.mT)).sum(dim=(1, 2)))

    def _weighted(self, squares: torch.Tensor) -> float:
        return float((squares.clamp_min(0.0) * self._row_factors.to(squares.device) ** 2).sum())


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad = False
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad = True


def _require_gradient(*called: Any) -> None:
    called[-1].requires_grad = True  # the output


def _embedding(model: nn.Module) -> nn.Module:
    base: Any = unwrapped(model)
    found = base.get_input_embeddings() if hasattr(base, "get_input_embeddings") else None
    if found is None:
        raise ModelError("a model with input embeddings", f"a {type(base).__name__} without", "Use a causal model.")
    return found  # type: ignore[no-any-return]


def _no_gradients(got: str) -> ModelError:
    return ModelError(
        "a base model whose layers pass gradients on",
        got,
        "Load it in another way (4-bit models through load_model), or use a rule that needs no gradients: "
        "IntrinsicMin, PerLayerID, EVA, EffectiveRank, BySize.",
    )
