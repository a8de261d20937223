"""The layers that several architectures use, written as slow loops over numbers.

A vector is a list of floats, a matrix a list of rows; nothing here calls a tensor operation, so
that agreement with the batched code is agreement of two independent programs.
"""

from __future__ import annotations

import math

Vector = list[float]
Matrix = list[Vector]


def dot(a: Vector, b: Vector) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def add(a: Vector, b: Vector) -> Vector:
    return [x + y for x, y in zip(a, b, strict=True)]


def linear(x: Vector, weight: Matrix, bias: Vector | None = None) -> Vector:
    """``weight`` has one row an output, as nn.Linear stores it."""
    return [dot(row, x) + (bias[i] if bias else 0.0) for i, row in enumerate(weight)]


def relu(x: Vector) -> Vector:
    return [max(v, 0.0) for v in x]


def gelu(x: Vector) -> Vector:
    return [0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x]


def layer_norm(x: Vector, weight: Vector, bias: Vector, eps: float = 1e-5) -> Vector:
    mean = math.fsum(x) / len(x)
    variance = math.fsum((v - mean) ** 2 for v in x) / len(x)
    return [(v - mean) / math.sqrt(variance + eps) * w + b for v, w, b in zip(x, weight, bias, strict=True)]


def softmax(x: Vector) -> Vector:
    exponentials = [math.exp(v - max(x)) for v in x]
    return [e / math.fsum(exponentials) for e in exponentials]


def mean_of(vectors: Matrix) -> Vector:
    return [math.fsum(column) / len(vectors) for column in zip(*vectors, strict=True)]


def transpose(matrix: Matrix) -> Matrix:
    return [list(column) for column in zip(*matrix, strict=True)]


def mlp(x: Vector, layers: list[tuple[Matrix, Vector]]) -> Vector:
    for weight, bias in layers:
        x = relu(linear(x, weight, bias))
    return x


def attention(
    tokens: Matrix, query: Matrix, key: Matrix, value: Matrix, num_heads: int, scaled: bool = True
) -> Matrix:
    """Dot-product attention, given each token's full-width query, key and value."""
    head_dim = len(query[0]) // num_heads
    divisor = math.sqrt(head_dim) if scaled else 1
    outputs: Matrix = [[] for _ in tokens]
    for head in range(num_heads):
        part = slice(head * head_dim, (head + 1) * head_dim)
        for i in range(len(tokens)):
            scores = [dot(query[i][part], key[j][part]) / divisor for j in range(len(tokens))]
            weights = softmax(scores)
            outputs[i] += [
                math.fsum(weights[j] * value[j][part][c] for j in range(len(tokens))) for c in range(head_dim)
            ]
    return outputs
