// The operations between matrix products on a CPU, each in one pass over memory. compiled.py compiles this file, and
// operators.py calls it.
//
// Numbers are float or bfloat16; all arithmetic, weights and biases are float. There are B * T rows of D numbers.
// Rows are divided among PyTorch's threads, always in the same way. The compiler vectorises loops over a row, so a sum
// may be computed in another order than written.

#include <omp.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <new>

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

namespace {

using Size = std::int64_t;

// Whether there is enough work to divide among threads: PyTorch's own bound.
inline bool shared(Size numbers, int threads) { return threads > 1 && numbers >= 32768; }

struct Bfloat16 {
  std::uint16_t bits;
};

inline float load(float number) { return number; }

inline float load(Bfloat16 number) {
  const std::uint32_t bits = static_cast<std::uint32_t>(number.bits) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline void store(const float* from, float* to, Size width) {
  if (from != to) std::memcpy(to, from, width * sizeof(float));
}

inline void store(const float* __restrict from, Bfloat16* __restrict to, Size width) {  // ties to even
  Size j = 0;
#ifdef __AVX512BF16__  // one instruction instead of the five below; compilers do not find it
  for (; j + 16 <= width; j += 16) {
    const __m256bh rounded = _mm512_cvtneps_pbh(_mm512_loadu_ps(from + j));
    std::memcpy(to + j, &rounded, sizeof rounded);
  }
#endif
  for (; j < width; j++) {
    std::uint32_t bits;
    std::memcpy(&bits, from + j, sizeof bits);
    to[j].bits = static_cast<std::uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
  }
}

// Where a row of results is computed before it is stored: directly at its destination if that holds floats.
inline float* place(float* to, float*) { return to; }
inline float* place(Bfloat16*, float* buffer) { return buffer; }

// A row of floats aligned to the lines of the cache: otherwise every vector would cross from one line to the next.
struct Row {
  explicit Row(Size width) : numbers(new (std::align_val_t{64}) float[width]) {}
  ~Row() { operator delete[](numbers, std::align_val_t{64}); }
  Row(const Row&) = delete;
  float* const numbers;
};

// erf within 2e-7: an odd quotient of polynomials on [-4, 4], outside of which erf is 1 or -1.
inline float error_function(float x) {
  x = x > 4.0f ? 4.0f : x;
  x = x < -4.0f ? -4.0f : x;
  const float s = x * x;
  float p = -2.72614225801306e-10f;
  p = p * s + 2.77068142495902e-08f;
  p = p * s - 2.10102402082508e-06f;
  p = p * s - 5.69250639462346e-05f;
  p = p * s - 7.34990630326855e-04f;
  p = p * s - 2.95459980854025e-03f;
  p = p * s - 1.60960333262415e-02f;
  float q = -1.45660718464996e-05f;
  q = q * s - 2.13374055278905e-04f;
  q = q * s - 1.68282697438203e-03f;
  q = q * s - 7.37332916720468e-03f;
  q = q * s - 1.42647390514189e-02f;
  return x * p / q;
}

// exp(x) for x <= 0, as 2^n times exp(r) with |r| at most log(2) / 2. About zero below -87.
inline float exponential(float x) {
  x = x < -87.0f ? -87.0f : x;
  const std::int32_t n = static_cast<std::int32_t>(x * 1.44269504f - 0.5f);  // truncates, and so rounds to nearest
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const std::int32_t exponent = (n + 127) << 23;
  float scale;
  std::memcpy(&scale, &exponent, sizeof scale);
  return p * scale;
}

template <typename T>
void gelu(T* __restrict hidden, const float* __restrict bias, T* __restrict slope, Size tokens, Size rows, Size width,
          int threads) {
#pragma omp parallel num_threads(threads) if (shared(tokens * rows * width, threads))
  {
    const Row buffer(width), slope_buffer(width);
#pragma omp for collapse(2) schedule(static)
    for (Size t = 0; t < tokens; t++)
    for (Size i = 0; i < rows; i++) {
      const Size at = t * rows + i;
      const float* b = bias + t * width;
      T* h = hidden + at * width;
      float* value = place(h, buffer.numbers);
      if (slope) {
        T* to = slope + at * width;
        float* d = place(to, slope_buffer.numbers);
        for (Size j = 0; j < width; j++) {
          const float x = load(h[j]) + b[j];
          const float below = 0.5f + 0.5f * error_function(x * 0.707106781f);
          value[j] = x * below;
          d[j] = below + x * 0.398942280f * exponential(-0.5f * x * x);
        }
        store(d, to, width);
      } else {
        for (Size j = 0; j < width; j++) {
          const float x = load(h[j]) + b[j];
          value[j] = x * (0.5f + 0.5f * error_function(x * 0.707106781f));
        }
      }
      store(value, h, width);
    }
  }
}

struct Moments {
  float mean, rstd;
};

// Computes a row's numbers and their moments in the same pass. The moments are taken about the first number c: since
// (mean - c)^2 is at most D times the variance, cancellation costs at most D roundings.
template <typename Number>
inline Moments read_row(Number number, float* row, Size width, float eps) {
  const float first = number(0);
  float sum = 0, squares = 0;
#pragma GCC ivdep
  for (Size j = 0; j < width; j++) {
    const float value = number(j), distance = value - first;
    row[j] = value;
    sum += distance;
    squares += distance * distance;
  }
  const float mean = sum / width;
  return {first + mean, 1.0f / std::sqrt(squares / width - mean * mean + eps)};
}

template <typename T>
inline void write_row(const float* row, Moments moments, const float* weight, const float* bias, Size width, T* y,
                      float* buffer) {
  float* value = place(y, buffer);
#pragma GCC ivdep
  for (Size j = 0; j < width; j++) value[j] = (row[j] - moments.mean) * moments.rstd * weight[j] + bias[j];
  store(value, y, width);
}

// Token h plus the token that the mixing makes of the h-th slices, of `slice` numbers each, of all tokens.
template <Size fixed, typename T>
inline void add_mixed(const T* __restrict tokens, Size h, Size count, Size slice, float* __restrict row) {
  const Size width = fixed ? fixed : slice;
  const T* own = tokens + h * count * width;
  for (Size t = 0; t < count; t++) {
    const T* given = tokens + (t * count + h) * width;
    for (Size j = 0; j < width; j++) row[t * width + j] = load(own[t * width + j]) + load(given[j]);
  }
}

template <typename T>
inline void add_mixed_tokens(const T* tokens, Size h, Size count, Size slice, float* row) {
  switch (slice) {  // short loops are three times as fast if the compiler knows their length
    case 1: return add_mixed<1>(tokens, h, count, slice, row);
    case 2: return add_mixed<2>(tokens, h, count, slice, row);
    case 3: return add_mixed<3>(tokens, h, count, slice, row);
    case 4: return add_mixed<4>(tokens, h, count, slice, row);
    case 5: return add_mixed<5>(tokens, h, count, slice, row);
    case 6: return add_mixed<6>(tokens, h, count, slice, row);
    case 7: return add_mixed<7>(tokens, h, count, slice, row);
    case 8: return add_mixed<8>(tokens, h, count, slice, row);
    case 9: return add_mixed<9>(tokens, h, count, slice, row);
    case 10: return add_mixed<10>(tokens, h, count, slice, row);
    case 11: return add_mixed<11>(tokens, h, count, slice, row);
    case 12: return add_mixed<12>(tokens, h, count, slice, row);
    case 16: return add_mixed<16>(tokens, h, count, slice, row);
    default: return add_mixed<0>(tokens, h, count, slice, row);
  }
}

enum Step { nothing, given, biased, mixing };

struct Rows {
  Size batch, tokens, width;
  Size step_batch, step_token;  // strides of the step, whose rows are contiguous
};

template <typename T>
void norm(const T* __restrict x, const T* __restrict step, const float* __restrict step_bias, Step kind,
          const float* __restrict weight, const float* __restrict bias, float eps, Rows rows, T* __restrict y,
          T* __restrict sum, Moments* __restrict saved, int threads) {
#pragma omp parallel num_threads(threads) if (shared(rows.batch * rows.tokens * rows.width, threads))
  {
    const Row buffer(rows.width);
#pragma omp for collapse(2) schedule(static)
    for (Size i = 0; i < rows.batch; i++)
    for (Size h = 0; h < rows.tokens; h++) {
      const Size at = i * rows.tokens + h, start = at * rows.width;
      const T* own = x + start;
      float* row = saved ? place(sum + start, buffer.numbers) : buffer.numbers;
      Moments m;
      if (kind == mixing) {
        add_mixed_tokens(x + i * rows.tokens * rows.width, h, rows.tokens, rows.width / rows.tokens, row);
        m = read_row([row](Size j) { return row[j]; }, row, rows.width, eps);
      } else if (kind == biased) {
        const T* other = step + i * rows.step_batch + h * rows.step_token;
        const float* more = step_bias + h * rows.width;
        const auto number = [own, other, more](Size j) { return load(own[j]) + load(other[j]) + more[j]; };
        m = read_row(number, row, rows.width, eps);
      } else if (kind == given) {
        const T* other = step + i * rows.step_batch + h * rows.step_token;
        m = read_row([own, other](Size j) { return load(own[j]) + load(other[j]); }, row, rows.width, eps);
      } else {
        m = read_row([own](Size j) { return load(own[j]); }, row, rows.width, eps);
      }
      if (saved) {
        saved[at] = m;
        store(row, sum + start, rows.width);
      }
      write_row(row, m, weight, bias, rows.width, y + start, buffer.numbers);
    }
  }
}

// With g = weight * dy and n the normalised row: rstd * (g - mean(g) - n * mean(g * n)). The gradients of weight and
// bias are returned as (threads, 2, D), the sums of each thread.
template <typename T>
void norm_gradient(const T* __restrict dy, const T* __restrict sum, const Moments* __restrict saved,
                   const float* __restrict weight, Size rows, Size width, T* __restrict dx,
                   float* __restrict dparameters, int threads) {
#pragma omp parallel num_threads(threads) if (shared(rows * width, threads))
  {
    const Row buffer(width);
    float* __restrict dweight = dparameters + omp_get_thread_num() * 2 * width;
    float* __restrict dbias = dweight + width;
#pragma omp for schedule(static)
    for (Size at = 0; at < rows; at++) {
      const T *out = dy + at * width, *in = sum + at * width;
      const Moments m = saved[at];
      float mean = 0, along = 0;
      for (Size j = 0; j < width; j++) {
        const float d = load(out[j]), n = (load(in[j]) - m.mean) * m.rstd, g = d * weight[j];
        dweight[j] += d * n;
        dbias[j] += d;
        mean += g;
        along += g * n;
      }
      mean /= width;
      along /= width;
      T* to = dx + at * width;
      float* value = place(to, buffer.numbers);
      for (Size j = 0; j < width; j++) {
        const float n = (load(in[j]) - m.mean) * m.rstd;
        value[j] = m.rstd * (load(out[j]) * weight[j] - mean - n * along);
      }
      store(value, to, width);
    }
  }
}

// x + Mix(x). It is also its own gradient, because with as many heads as tokens the mixing is symmetric.
template <typename T>
void mixed(const T* __restrict x, Size batch, Size tokens, Size width, T* __restrict y, int threads) {
#pragma omp parallel num_threads(threads) if (shared(batch * tokens * width, threads))
  {
    const Row buffer(width);
#pragma omp for collapse(2) schedule(static)
    for (Size i = 0; i < batch; i++)
    for (Size h = 0; h < tokens; h++) {
      T* to = y + (i * tokens + h) * width;
      float* value = place(to, buffer.numbers);
      add_mixed_tokens(x + i * tokens * width, h, tokens, width / tokens, value);
      store(value, to, width);
    }
  }
}

}  // namespace

#define FOR_NUMBERS_OF(name, T)                                                                             \
  extern "C" void gelu_##name(void* hidden, const float* bias, void* slope, Size tokens, Size rows,         \
                              Size width, int threads) {                                                    \
    gelu(static_cast<T*>(hidden), bias, static_cast<T*>(slope), tokens, rows, width, threads);              \
  }                                                                                                         \
  extern "C" void norm_##name(const void* x, const void* step, const float* step_bias, int kind,            \
                              const float* weight, const float* bias, float eps, Size batch, Size tokens,   \
                              Size width, Size step_batch, Size step_token, void* y, void* sum,             \
                              void* saved, int threads) {                                                   \
    norm(static_cast<const T*>(x), static_cast<const T*>(step), step_bias, static_cast<Step>(kind), weight, \
         bias, eps, {batch, tokens, width, step_batch, step_token}, static_cast<T*>(y),                     \
         static_cast<T*>(sum), static_cast<Moments*>(saved), threads);                                      \
  }                                                                                                         \
  extern "C" void norm_gradient_##name(const void* dy, const void* sum, const void* saved,                  \
                                       const float* weight, Size rows, Size width, void* dx,                \
                                       float* dparameters, int threads) {                                   \
    norm_gradient(static_cast<const T*>(dy), static_cast<const T*>(sum), static_cast<const Moments*>(saved),\
                  weight, rows, width, static_cast<T*>(dx), dparameters, threads);                          \
  }                                                                                                         \
  extern "C" void mixed_##name(const void* x, Size batch, Size tokens, Size width, void* y, int threads) {  \
    mixed(static_cast<const T*>(x), batch, tokens, width, static_cast<T*>(y), threads);                     \
  }

FOR_NUMBERS_OF(float, float)
FOR_NUMBERS_OF(bfloat16, Bfloat16)
