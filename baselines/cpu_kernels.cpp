// What lies between matrix products on a CPU, in one pass over memory each: compiled and called by cpu_kernels.py.
//
// Numbers are float or bfloat16; all arithmetic, weights and biases are float. Rows are (B, T) of D numbers.
// One thread. Loops are left to the compiler to vectorise: a sum may be taken in another order than written.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <new>

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

namespace {

using Size = std::int64_t;

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
#ifdef __AVX512BF16__  // one instruction for what is five below; compilers do not find it
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

// Where a row of results is put together before it is stored: where it belongs, if that holds floats.
inline float* place(float* to, float*) { return to; }
inline float* place(Bfloat16*, float* buffer) { return buffer; }

// A row of floats within lines of the cache: else every vector would straddle two.
struct Row {
  explicit Row(Size width) : numbers(new (std::align_val_t{64}) float[width]) {}
  ~Row() { operator delete[](numbers, std::align_val_t{64}); }
  Row(const Row&) = delete;
  float* const numbers;
};

// erf within 2e-7: a quotient of polynomials of an odd number between -4 and 4, beyond which it is one.
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

// exp of x <= 0 as 2^n times exp of what is left, which is within half an octave of 1. Zero below -87.
inline float exponential(float x) {
  x = x < -87.0f ? -87.0f : x;
  const std::int32_t n = static_cast<std::int32_t>(x * 1.44269504f - 0.5f);  // towards zero, so to the nearest
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
void gelu(T* __restrict hidden, const float* __restrict bias, T* __restrict slope, Size tokens, Size rows, Size width) {
  const Row buffer(width), slope_buffer(width);
  for (Size t = 0; t < tokens; t++) {
    const float* b = bias + t * width;
    for (Size i = 0; i < rows; i++) {
      T* h = hidden + (t * rows + i) * width;
      float* value = place(h, buffer.numbers);
      if (slope) {
        T* to = slope + (t * rows + i) * width;
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

inline Moments moments(const float* __restrict row, Size width, float eps) {
  float sum = 0, squares = 0;
  for (Size j = 0; j < width; j++) sum += row[j];
  const float mean = sum / width;
  for (Size j = 0; j < width; j++) squares += (row[j] - mean) * (row[j] - mean);
  return {mean, 1.0f / std::sqrt(squares / width + eps)};
}

// Token h's own slices of `slice` numbers, and those that the mixing gives it: the h-th of every token.
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
  switch (slice) {  // short loops of a length that the compiler knows are three times as fast
    case 2: return add_mixed<2>(tokens, h, count, slice, row);
    case 4: return add_mixed<4>(tokens, h, count, slice, row);
    case 8: return add_mixed<8>(tokens, h, count, slice, row);
    case 16: return add_mixed<16>(tokens, h, count, slice, row);
    default: return add_mixed<0>(tokens, h, count, slice, row);
  }
}

enum Step { nothing, given, mixing };

struct Rows {
  Size batch, tokens, width;
  Size step_batch, step_token;  // strides of the step, whose numbers of one row lie side by side
};

template <typename T>
void norm(const T* __restrict x, const T* __restrict step, Step kind, const float* __restrict weight,
          const float* __restrict bias, float eps, Rows of, T* __restrict y, T* __restrict sum,
          Moments* __restrict saved) {
  const Row buffer(of.width);
  float* row = buffer.numbers;
  for (Size i = 0; i < of.batch; i++) {
    for (Size h = 0; h < of.tokens; h++) {
      const Size at = i * of.tokens + h;
      const T* own = x + at * of.width;
      if (kind == mixing) {
        add_mixed_tokens(x + i * of.tokens * of.width, h, of.tokens, of.width / of.tokens, row);
      } else if (kind == given) {
        const T* other = step + i * of.step_batch + h * of.step_token;
        for (Size j = 0; j < of.width; j++) row[j] = load(own[j]) + load(other[j]);
      } else {
        for (Size j = 0; j < of.width; j++) row[j] = load(own[j]);
      }
      const Moments m = moments(row, of.width, eps);
      if (saved) {
        saved[at] = m;
        store(row, sum + at * of.width, of.width);
      }
      T* to = y + at * of.width;
      float* value = place(to, row);
      for (Size j = 0; j < of.width; j++) value[j] = (row[j] - m.mean) * m.rstd * weight[j] + bias[j];
      store(value, to, of.width);
    }
  }
}

// With g = weight * dy and n the normalised row: rstd * (g - mean(g) - n * mean(g * n)).
template <typename T>
void norm_gradient(const T* __restrict dy, const T* __restrict sum, const Moments* __restrict saved,
                   const float* __restrict weight, Size rows, Size width, T* __restrict dx,
                   float* __restrict dweight, float* __restrict dbias) {
  const Row buffer(width);
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

// x + Mix(x): the gradient of itself, because the mixing that gives a slice of each token to each is symmetric.
template <typename T>
void mixed(const T* __restrict x, Size batch, Size tokens, Size width, T* __restrict y) {
  const Row buffer(width);
  for (Size i = 0; i < batch; i++) {
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
                              Size width) {                                                                 \
    gelu(static_cast<T*>(hidden), bias, static_cast<T*>(slope), tokens, rows, width);                       \
  }                                                                                                         \
  extern "C" void norm_##name(const void* x, const void* step, int kind, const float* weight,               \
                              const float* bias, float eps, Size batch, Size tokens, Size width,            \
                              Size step_batch, Size step_token, void* y, void* sum, void* saved) {          \
    norm(static_cast<const T*>(x), static_cast<const T*>(step), static_cast<Step>(kind), weight, bias, eps, \
         {batch, tokens, width, step_batch, step_token}, static_cast<T*>(y), static_cast<T*>(sum),          \
         static_cast<Moments*>(saved));                                                                     \
  }                                                                                                         \
  extern "C" void norm_gradient_##name(const void* dy, const void* sum, const void* saved,                  \
                                       const float* weight, Size rows, Size width, void* dx,                \
                                       float* dweight, float* dbias) {                                      \
    norm_gradient(static_cast<const T*>(dy), static_cast<const T*>(sum),                                    \
                  static_cast<const Moments*>(saved), weight, rows, width, static_cast<T*>(dx), dweight,    \
                  dbias);                                                                                   \
  }                                                                                                         \
  extern "C" void mixed_##name(const void* x, Size batch, Size tokens, Size width, void* y) {               \
    mixed(static_cast<const T*>(x), batch, tokens, width, static_cast<T*>(y));                              \
  }

FOR_NUMBERS_OF(float, float)
FOR_NUMBERS_OF(bfloat16, Bfloat16)
