"""The divergence of two Normals with full covariance, from their Cholesky factors."""

from __future__ import annotations

from torch import Tensor

from ppl_vae import checks
from ppl_vae.checks import Real
from ppl_vae.closed_forms.numerics.kl_solve import solve_lower
from ppl_vae.closed_forms.numerics.kl_terms import quotient_gap, two_difference, two_product, widen


def kl_mvn_mvn(q_loc: Real, q_scale_tril: Tensor, p_loc: Real, p_scale_tril: Tensor) -> Tensor:
    """Return KL(q || p) of two multivariate Normals, summed over the event dimension.

    With L_q, L_p the factors (covariance = L L'), M = L_p^-1 L_q and y = L_p^-1 (q_loc - p_loc):

        KL = (sum_ij M_ij^2 - d) / 2 - sum_i log M_ii + |y|^2 / 2

    Args:
        q_loc: mean of q, shape (*batch, d), in the units of the variable; or a number, the same in
            every coordinate.
        q_scale_tril: L_q, shape (*batch, d, d), lower triangular with a positive diagonal, as
            `torch.linalg.cholesky` gives it; in the units of the variable.
        p_loc: mean of p, as `q_loc`.
        p_scale_tril: L_p, as `q_scale_tril`.

    Returns:
        The divergence in nats, shape (*batch) after broadcasting; summed over d, nothing else.

    Raises:
        TypeError: an argument is neither a number nor a floating-point tensor.
        ValueError: an entry is NaN or infinite; a factor is not square, not lower triangular, or
            singular (a diagonal entry not above 0); or shapes do not fit together.

    Source:
        `(tr(P^-1 Q) - d + log det P - log det Q + |y|^2) / 2` for covariances Q, P, from the
        expectation of log q - log p; tr(P^-1 Q) = |M|^2, and determinants are products of
        diagonals. It is summed as squares off the diagonal of M plus `(m^2 - 1) / 2 - log m` on
        it, all non-negative. One step of refinement keeps the digits of M and y where
        the covariance of p is nearly singular.

    Example:
        >>> import torch
        >>> kl_mvn_mvn(torch.zeros(2), torch.eye(2), torch.ones(2), torch.eye(2))
        tensor(1.)
    """
    tensors = checks.floats(
        q_loc=q_loc, q_scale_tril=q_scale_tril, p_loc=p_loc, p_scale_tril=p_scale_tril
    )
    _check_shapes(*tensors)
    checks.finite("q_loc", tensors[0])
    checks.finite("p_loc", tensors[2])
    _check_factor("q_scale_tril", tensors[1])
    _check_factor("p_scale_tril", tensors[3])
    q_loc, q_factor, p_loc, p_factor = (widen(tensor) for tensor in tensors)
    q_factor, p_factor = q_factor.tril(), p_factor.tril()

    q_diagonal = q_factor.diagonal(dim1=-2, dim2=-1)
    p_diagonal = p_factor.diagonal(dim1=-2, dim2=-1)
    # L_p^-1 (L_q - L_p diag(c)) agrees with M off the diagonal whatever c is. With c = diag(M),
    # whose rounding does not matter, what is solved for vanishes where the factors agree.
    c = (q_diagonal / p_diagonal).detach().unsqueeze(-2)
    right = q_factor - c * p_factor
    product, off = two_product(p_factor.detach(), c)
    exact, rest = two_difference(q_factor.detach(), product)
    exact, rest = two_difference(exact, off - rest)
    off_diagonal = solve_lower(p_factor, exact + (right - right.detach()), rest).tril(-1)
    deviation = (q_diagonal - p_diagonal) / p_diagonal
    diagonal = deviation.square() / 2 + quotient_gap(q_diagonal, p_diagonal)
    spread = diagonal.sum(-1) + off_diagonal.square().sum((-2, -1)) / 2
    _, rest = two_difference(q_loc.detach(), p_loc.detach())
    distance = _solve(p_factor, q_loc - p_loc, rest)
    return (spread + distance.square().sum(-1) / 2).to(tensors[0].dtype)


def _solve(factor: Tensor, vectors: Tensor, rest: Tensor) -> Tensor:
    """Return `factor^-1 vector` for each vector; an unbatched factor is not copied for each."""
    size = factor.shape[-1]
    vectors, rest = (x.expand(*x.shape[:-1], size) for x in (vectors, rest))
    if factor.dim() > 2:
        return solve_lower(factor, vectors.unsqueeze(-1), rest.unsqueeze(-1)).squeeze(-1)
    flat = solve_lower(factor, vectors.reshape(-1, size).mT, rest.reshape(-1, size).mT)
    return flat.mT.reshape(vectors.shape)


def _check_shapes(q_loc: Tensor, q_factor: Tensor, p_loc: Tensor, p_factor: Tensor) -> None:
    size = q_factor.shape[-1] if q_factor.dim() else 0
    factors = all(x.dim() >= 2 and x.shape[-2:] == (size, size) for x in (q_factor, p_factor))
    locs = all(x.dim() == 0 or x.shape[-1] == size for x in (q_loc, p_loc))
    if size == 0 or not factors or not locs:
        shapes = f"q_loc {tuple(q_loc.shape)}, q_scale_tril {tuple(q_factor.shape)}, "
        shapes += f"p_loc {tuple(p_loc.shape)}, p_scale_tril {tuple(p_factor.shape)}"
        raise checks.value_error(
            "locs of shape (*batch, d) and factors of shape (*batch, d, d) with one d >= 1",
            shapes,
            "Pass Cholesky factors as torch.linalg.cholesky(covariance) gives them.",
        )
    checks.broadcastable(
        q_loc=q_loc, q_scale_tril=q_factor[..., 0], p_loc=p_loc, p_scale_tril=p_factor[..., 0]
    )


def _check_factor(name: str, factor: Tensor) -> None:
    checks.finite(name, factor)
    if not checks.values_are_checked():
        return
    smallest = factor.detach().diagonal(dim1=-2, dim2=-1)
    if bool((smallest <= 0).any()):
        raise checks.value_error(
            f"{name} of a covariance that is not singular: diagonal entries above 0",
            f"{int((smallest <= 0).sum())} of {smallest.numel()} entries otherwise",
            "Add a little to the covariance's diagonal before torch.linalg.cholesky.",
        )
    if bool((factor.detach().triu(1) != 0).any()):
        raise checks.value_error(
            f"{name} lower triangular",
            "entries other than 0 above the diagonal",
            "Pass torch.linalg.cholesky(covariance), not the covariance itself.",
        )
