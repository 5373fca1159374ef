// The photometric error of `photometric_error.py` on the CPU: one pass per image, forward and backward.
//
// Rows are processed in bands. A band keeps the rows of one window of horizontal sums in a ring, so that all
// temporaries stay in the cache. R is the radius of SSIM's window. The backward pass computes the slopes again, which is cheaper than storing
// three maps of each image. Sums are taken in the order of the torch form. The build must not contract
// products and sums (-ffp-contract=off): for equal images SSIM is then 1 to the last bit, and the error 0.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <thread>
#include <vector>

namespace {

constexpr int kBand = 24;  // rows

struct Problem {
  const float *images, *target, *mean, *variance, *gradient;  // see the functions at the end
  float *result;
  int images_count, batch, channels, height, width;
  double weight;
  float epsilon, c1, c2;
};

struct Plane {  // one channel of one image
  Plane(const Problem &p, int image, int channel) {
    const long size = long(p.height) * p.width;
    const long theirs = (long(image % p.batch) * p.channels + channel) * size;
    offset = (long(image) * p.channels + channel) * size;
    x = p.images + offset, y = p.target + theirs;
    u = p.mean ? p.mean + theirs : nullptr, v = p.variance ? p.variance + theirs : nullptr;
  }
  const float *x, *y, *u, *v;
  long offset;
};

// The last 2 R + 1 rows of each of three maps; a row takes the place of the oldest one.
template <int R>
struct Ring {
  static constexpr int kRows = 2 * R + 1;
  explicit Ring(int width) : width(width), values(3 * kRows * width) {}
  float *at(int map, int row) { return values.data() + (kRows * map + row % kRows) * width; }
  int width;
  std::vector<float> values;
};

template <int R>
struct Buffers {
  explicit Buffers(int width)
      : sums(width), slopes(width), rows(6 * width), bands(2 * kBand * width), padded(width + 4 * R) {}
  Ring<R> sums, slopes;  // horizontal window sums of J, J^2, I J; slopes by their means
  std::vector<float> rows, bands, padded;
};

// Sum of 2 R + 1 neighbours: the outer pair first, the centre last.
template <int R>
inline float sum_around(const float *x) {
  float sum = x[0] + x[2 * R];
  for (int k = 1; k < R; ++k) sum += x[k] + x[2 * R - k];
  return sum + x[R];
}

// Sums over windows along a row with a reflected border.
template <int R>
void sum_along_row(const float *__restrict__ x, float *__restrict__ out, int width, float *__restrict__ padded) {
  std::copy(x, x + width, padded + R);
  for (int k = 1; k <= R; ++k) {
    padded[R - k] = x[k];
    padded[R + width - 1 + k] = x[width - 1 - k];
  }
  for (int j = 0; j < width; ++j) out[j] = sum_around<R>(padded + j);
}

// The transpose of `sum_along_row`: what the windows of the border take twice goes to the inner pixels.
template <int R>
void spread_along_row(const float *__restrict__ x, float *__restrict__ out, int width,
                      float *__restrict__ padded) {
  std::fill(padded, padded + 2 * R, 0.0f);
  std::copy(x, x + width, padded + 2 * R);
  std::fill(padded + 2 * R + width, padded + width + 4 * R, 0.0f);
  for (int j = 0; j < width; ++j) out[j] = sum_around<R>(padded + R + j);
  for (int k = 1; k <= R; ++k) {
    out[k] += sum_around<R>(padded + R - k);
    out[width - 1 - k] += sum_around<R>(padded + R + width - 1 + k);
  }
}

inline int reflected(int i, int size) { return i < 0 ? -i : i >= size ? 2 * (size - 1) - i : i; }

template <int R>
void sum_rows(Ring<R> &ring, int map, int row, int height, float *__restrict__ out) {
  const float *rows[2 * R + 1];
  for (int k = -R; k <= R; ++k) rows[R + k] = ring.at(map, reflected(row + k, height));
  for (int j = 0; j < ring.width; ++j) {
    float sum = rows[0][j] + rows[2 * R][j];
    for (int k = 1; k < R; ++k) sum += rows[k][j] + rows[2 * R - k][j];
    out[j] = sum + rows[R][j];
  }
}

// The transpose of `sum_rows`.
template <int R>
void spread_rows(Ring<R> &ring, int map, int row, int height, float *__restrict__ out) {
  const int width = ring.width;
  const auto add = [&](int other) {
    const float *__restrict__ values = ring.at(map, other);
    for (int j = 0; j < width; ++j) out[j] += values[j];
  };
  std::fill(out, out + width, 0.0f);
  for (int k = R; k >= 1; --k) {
    if (row - k >= 0) add(row - k);
    if (row + k < height) add(row + k);
  }
  add(row);
  // Windows that reach this row again by reflection.
  for (int other = 0; row >= 1 && other <= R - row; ++other) add(other);
  for (int other = height - 1; row <= height - 2 && other >= 2 * (height - 1) - row - R; --other) add(other);
}

template <int R>
void add_sums(const float *__restrict__ x, const float *__restrict__ y, int row, Buffers<R> &buffers) {
  const int width = buffers.sums.width;
  float *__restrict__ squares = buffers.rows.data(), *__restrict__ products = squares + width;
  for (int j = 0; j < width; ++j) {
    squares[j] = x[j] * x[j];
    products[j] = x[j] * y[j];
  }
  float *padded = buffers.padded.data();
  sum_along_row<R>(x, buffers.sums.at(0, row), width, padded);
  sum_along_row<R>(squares, buffers.sums.at(1, row), width, padded);
  sum_along_row<R>(products, buffers.sums.at(2, row), width, padded);
}

// a b + c with one rounding where the processor can, as torch computes `addcmul` and `add` with a factor.
inline float multiply_add(float a, float b, float c) {
#ifdef __FMA__
  return std::fma(a, b, c);
#else
  return a * b + c;
#endif
}

struct Similarity {
  float m, a1, a2, b1, b2, product, ssim;
};

// SSIM of a pixel from the sums of its window and the target's mean and variance.
template <int R>
inline Similarity compare(float m, float r, float s, float u, float v, float c1, float c2) {
  Similarity q;
  constexpr float count = (2 * R + 1) * (2 * R + 1);
  q.m = m / count;
  r /= count;
  s /= count;
  const float both = q.m * u, square = q.m * q.m;
  q.a2 = (s - both) * 2 + c2;
  q.a1 = both * 2 + c1;
  q.b2 = ((r - square) + v) + c2;
  q.b1 = (square + u * u) + c1;
  q.product = q.b1 * q.b2;
  q.ssim = q.a1 * q.a2 / q.product;
  return q;
}

// Adds (1 - SSIM) / 2 of one row.
template <int R>
void add_similarity(const float *__restrict__ windows, const float *__restrict__ u,
                    const float *__restrict__ v, int width, float c1, float c2, float *__restrict__ sum) {
  const float *__restrict__ m = windows, *__restrict__ r = m + width, *__restrict__ s = r + width;
  for (int j = 0; j < width; ++j) {
    const float half = (1 - compare<R>(m[j], r[j], s[j], u[j], v[j], c1, c2).ssim) * 0.5f;
    sum[j] += half < 0 ? 0 : half > 1 ? 1 : half;  // keeps NaN
  }
}

// The three slopes of one row, times the gradient; see `_PhotometricError`.
template <int R>
void slopes_of_row(const float *__restrict__ windows, const float *__restrict__ u,
                   const float *__restrict__ v, const float *__restrict__ gradient, int width, float share,
                   float c1, float c2, float *__restrict__ by_mean, float *__restrict__ by_square,
                   float *__restrict__ by_product) {
  const float *__restrict__ m = windows, *__restrict__ r = m + width, *__restrict__ s = r + width;
  for (int j = 0; j < width; ++j) {
    const Similarity q = compare<R>(m[j], r[j], s[j], u[j], v[j], c1, c2);
    // Only rounding moves SSIM outside [-1, 1]; the error is clamped there and its slope is zero.
    const float scale = (std::fabs(q.ssim) <= 1 ? -0.5f / ((2 * R + 1) * (2 * R + 1)) : 0.0f) / q.product;
    const float g = gradient[j] * share, relative = q.ssim * scale;
    by_product[j] = q.a1 * scale * 2 * g;
    by_mean[j] = multiply_add((q.b1 - q.b2) * q.m, relative, (q.a2 - q.a1) * u[j] * scale) * 2 * g;
    by_square[j] = -(relative * q.b1) * g;
  }
}

void add_difference(const float *__restrict__ x, const float *__restrict__ y, int width, float epsilon,
                    float *__restrict__ sum) {
  if (epsilon > 0)
    for (int j = 0; j < width; ++j) sum[j] += std::sqrt((x[j] - y[j]) * (x[j] - y[j]) + epsilon);
  else
    for (int j = 0; j < width; ++j) sum[j] += std::fabs(x[j] - y[j]);
}

template <int R>
void forward_band(const Problem &p, int image, int first, int last, Buffers<R> &buffers) {
  const int width = p.width;
  float *absolute = buffers.bands.data(), *similar = absolute + kBand * width;
  float *windows = buffers.rows.data() + 2 * width;
  std::fill(buffers.bands.begin(), buffers.bands.end(), 0.0f);
  for (int channel = 0; channel < p.channels; ++channel) {
    const Plane plane(p, image, channel);
    int summed = std::max(0, first - R);  // the first row whose sums are missing
    for (int row = first; row < last; ++row) {
      const long at = long(row) * width;
      add_difference(plane.x + at, plane.y + at, width, p.epsilon, absolute + (row - first) * width);
      if (p.weight <= 0) continue;
      for (; summed <= std::min(row + R, p.height - 1); ++summed)
        add_sums(plane.x + long(summed) * width, plane.y + long(summed) * width, summed, buffers);
      for (int map = 0; map < 3; ++map) sum_rows(buffers.sums, map, row, p.height, windows + map * width);
      add_similarity<R>(windows, plane.u + at, plane.v + at, width, p.c1, p.c2, similar + (row - first) * width);
    }
  }
  float *__restrict__ out = p.result + (long(image) * p.height + first) * width;
  const float weight = p.weight, rest = 1 - p.weight, count = p.channels;
  for (int j = 0; j < (last - first) * width; ++j)
    out[j] = multiply_add(similar[j] / count, weight, absolute[j] / count * rest);
}

// Gradient of the absolute or robust difference of one row.
void difference_slope(const float *__restrict__ x, const float *__restrict__ y,
                      const float *__restrict__ gradient, int width, float epsilon, float share,
                      float *__restrict__ out) {
  for (int j = 0; j < width; ++j) {
    const float d = x[j] - y[j];
    const float slope = epsilon > 0 ? d / std::sqrt(d * d + epsilon) : float(d > 0) - float(d < 0);
    out[j] = slope * share * gradient[j];
  }
}

void add_slopes(const float *__restrict__ x, const float *__restrict__ y, const float *__restrict__ spread,
                int width, float *__restrict__ out) {
  const float *__restrict__ by_mean = spread, *__restrict__ by_square = by_mean + width,
                            *__restrict__ by_product = by_square + width;
  for (int j = 0; j < width; ++j)
    out[j] = multiply_add(by_product[j], y[j], multiply_add(2 * by_square[j], x[j], out[j] + by_mean[j]));
}

template <int R>
void backward_band(const Problem &p, int image, int first, int last, Buffers<R> &buffers) {
  const int width = p.width, height = p.height;
  const float *gradient = p.gradient + long(image) * height * width;
  float *row_sums = buffers.rows.data() + 2 * width, *spread = row_sums + width;
  float *windows = row_sums;  // no longer needed when the slopes are summed
  for (int channel = 0; channel < p.channels; ++channel) {
    const Plane plane(p, image, channel);
    int summed = std::max(0, first - 2 * R), sloped = std::max(0, first - R);
    for (int row = first; row < last; ++row) {
      const long at = long(row) * width;
      float *out = p.result + plane.offset + at;
      difference_slope(plane.x + at, plane.y + at, gradient + at, width, p.epsilon,
                       (1 - p.weight) / p.channels, out);
      if (p.weight <= 0) continue;
      for (; sloped <= std::min(row + R, height - 1); ++sloped) {
        for (; summed <= std::min(sloped + R, height - 1); ++summed)
          add_sums(plane.x + long(summed) * width, plane.y + long(summed) * width, summed, buffers);
        for (int map = 0; map < 3; ++map) sum_rows(buffers.sums, map, sloped, height, windows + map * width);
        const long there = long(sloped) * width;
        Ring<R> &slopes = buffers.slopes;
        slopes_of_row<R>(windows, plane.u + there, plane.v + there, gradient + there, width,
                      p.weight / p.channels, p.c1, p.c2, slopes.at(0, sloped), slopes.at(1, sloped),
                      slopes.at(2, sloped));
      }
      for (int map = 0; map < 3; ++map) {
        spread_rows(buffers.slopes, map, row, height, row_sums);
        spread_along_row<R>(row_sums, spread + map * width, width, buffers.padded.data());
      }
      add_slopes(plane.x + at, plane.y + at, spread, width, out);
    }
  }
}

// The target's mean and variance over windows; `images` holds the target, `result` both, one after the other.
template <int R>
void statistics_band(const Problem &p, int image, int first, int last, Buffers<R> &buffers) {
  constexpr float count = (2 * R + 1) * (2 * R + 1);
  const int width = p.width;
  float *windows = buffers.rows.data() + 2 * width;
  for (int channel = 0; channel < p.channels; ++channel) {
    const Plane plane(p, image, channel);
    int summed = std::max(0, first - R);
    for (int row = first; row < last; ++row) {
      for (; summed <= std::min(row + R, p.height - 1); ++summed)
        add_sums(plane.x + long(summed) * width, plane.x + long(summed) * width, summed, buffers);
      for (int map = 0; map < 2; ++map) sum_rows(buffers.sums, map, row, p.height, windows + map * width);
      float *__restrict__ mean = p.result + plane.offset + long(row) * width;
      float *__restrict__ variance = mean + long(p.images_count) * p.channels * p.height * width;
      for (int j = 0; j < width; ++j) {
        mean[j] = windows[j] / count;
        variance[j] = windows[width + j] / count - mean[j] * mean[j];
      }
    }
  }
}

template <int R>
void over_bands(const Problem &p, void (*band)(const Problem &, int, int, int, Buffers<R> &), int threads) {
  const int bands = (p.height + kBand - 1) / kBand, tasks = bands * p.images_count;
  std::atomic<int> next{0};
  auto work = [&] {
    Buffers<R> buffers(p.width);
    for (int task; (task = next++) < tasks;) {
      const int first = task % bands * kBand;
      band(p, task / bands, first, std::min(first + kBand, p.height), buffers);
    }
  };
  std::vector<std::thread> others;
  for (int i = 1; i < std::min(threads, tasks); ++i) others.emplace_back(work);
  work();
  for (auto &thread : others) thread.join();
}

Problem problem(const float *images, const float *target, const float *mean, const float *variance,
                const float *gradient, const int *n, const double *numbers, float *result) {
  return {images,      target,  mean, variance, gradient, result, n[0] * n[1], n[1], n[2], n[3], n[4],
          numbers[0],  float(numbers[1]), float(numbers[2]), float(numbers[3])};
}

}  // namespace

// Shapes: images (S, B, C, H, W), target, mean and variance (B, C, H, W), error and gradient (S, B, 1, H, W),
// result that of its images, of statistics (2, B, C, H, W); all contiguous. n: S, B, C, H, W, radius (1 or 3).
// numbers: SSIM's weight, e, C1, C2.
extern "C" void photometric_forward(const float *images, const float *target, const float *mean,
                                    const float *variance, const int *n, const double *numbers, float *error,
                                    int threads) {
  const Problem p = problem(images, target, mean, variance, nullptr, n, numbers, error);
  n[5] == 1 ? over_bands<1>(p, forward_band<1>, threads) : over_bands<3>(p, forward_band<3>, threads);
}

extern "C" void photometric_backward(const float *images, const float *target, const float *mean,
                                     const float *variance, const float *gradient, const int *n,
                                     const double *numbers, float *result, int threads) {
  const Problem p = problem(images, target, mean, variance, gradient, n, numbers, result);
  n[5] == 1 ? over_bands<1>(p, backward_band<1>, threads) : over_bands<3>(p, backward_band<3>, threads);
}

extern "C" void photometric_statistics(const float *target, const int *n, const double *numbers, float *result,
                                       int threads) {
  const Problem p = problem(target, target, nullptr, nullptr, nullptr, n, numbers, result);
  n[5] == 1 ? over_bands<1>(p, statistics_band<1>, threads) : over_bands<3>(p, statistics_band<3>, threads);
}
