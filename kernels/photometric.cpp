// The photometric error of `photometric_error.py` on the CPU: one pass per image, forward and backward.
//
// Rows are processed in bands. A band keeps three rows of horizontal window sums in a ring, so that all
// temporaries stay in the cache. The backward pass computes the slopes again, which is cheaper than storing
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

// Three rows of each of three maps; a row takes the place of the one three rows above it.
struct Ring {
  explicit Ring(int width) : width(width), values(9 * width) {}
  float *at(int map, int row) { return values.data() + (3 * map + row % 3) * width; }
  int width;
  std::vector<float> values;
};

struct Buffers {
  explicit Buffers(int width) : sums(width), slopes(width), rows(6 * width), bands(2 * kBand * width) {}
  Ring sums, slopes;         // horizontal window sums of J, J^2, I J; slopes by their means
  std::vector<float> rows, bands;
};

// Sum of three neighbours along a row; the reflected border doubles the inner neighbour.
void sum_along_row(const float *__restrict__ x, float *__restrict__ out, int width) {
  for (int j = 1; j < width - 1; ++j) out[j] = (x[j - 1] + x[j + 1]) + x[j];
  out[0] = 2 * x[1] + x[0];
  out[width - 1] = 2 * x[width - 2] + x[width - 1];
}

// The transpose of `sum_along_row`: the doubled weights of the border go to the inner pixel.
void spread_along_row(const float *__restrict__ x, float *__restrict__ out, int width) {
  for (int j = 1; j < width - 1; ++j) out[j] = (x[j - 1] + x[j + 1]) + x[j];
  out[0] = x[1] + x[0];
  out[width - 1] = x[width - 2] + x[width - 1];
  out[1] += x[0];
  out[width - 2] += x[width - 1];
}

void sum_rows(Ring &ring, int map, int row, int height, float *__restrict__ out) {
  const float *__restrict__ above = ring.at(map, row ? row - 1 : 1);
  const float *__restrict__ below = ring.at(map, row < height - 1 ? row + 1 : height - 2);
  const float *__restrict__ here = ring.at(map, row);
  for (int j = 0; j < ring.width; ++j) out[j] = (above[j] + below[j]) + here[j];
}

// The transpose of `sum_rows`.
void spread_rows(Ring &ring, int map, int row, int height, float *__restrict__ out) {
  const int width = ring.width;
  const float *__restrict__ here = ring.at(map, row);
  const float *__restrict__ above = ring.at(map, row ? row - 1 : 1);
  const float *__restrict__ below = ring.at(map, row < height - 1 ? row + 1 : height - 2);
  if (row == 0 || row == height - 1)
    for (int j = 0; j < width; ++j) out[j] = above[j] + here[j];  // one neighbour, given as both
  else
    for (int j = 0; j < width; ++j) out[j] = (above[j] + below[j]) + here[j];
  if (row == 1)
    for (int j = 0; j < width; ++j) out[j] += above[j];
  if (row == height - 2)
    for (int j = 0; j < width; ++j) out[j] += below[j];
}

void add_sums(const float *__restrict__ x, const float *__restrict__ y, int row, Buffers &buffers) {
  const int width = buffers.sums.width;
  float *__restrict__ squares = buffers.rows.data(), *__restrict__ products = squares + width;
  for (int j = 0; j < width; ++j) {
    squares[j] = x[j] * x[j];
    products[j] = x[j] * y[j];
  }
  sum_along_row(x, buffers.sums.at(0, row), width);
  sum_along_row(squares, buffers.sums.at(1, row), width);
  sum_along_row(products, buffers.sums.at(2, row), width);
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
inline Similarity compare(float m, float r, float s, float u, float v, float c1, float c2) {
  Similarity q;
  q.m = m / 9;
  r /= 9;
  s /= 9;
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
void add_similarity(const float *__restrict__ windows, const float *__restrict__ u,
                    const float *__restrict__ v, int width, float c1, float c2, float *__restrict__ sum) {
  const float *__restrict__ m = windows, *__restrict__ r = m + width, *__restrict__ s = r + width;
  for (int j = 0; j < width; ++j) {
    const float half = (1 - compare(m[j], r[j], s[j], u[j], v[j], c1, c2).ssim) * 0.5f;
    sum[j] += half < 0 ? 0 : half > 1 ? 1 : half;  // keeps NaN
  }
}

// The three slopes of one row, times the gradient; see `_PhotometricError`.
void slopes_of_row(const float *__restrict__ windows, const float *__restrict__ u,
                   const float *__restrict__ v, const float *__restrict__ gradient, int width, float share,
                   float c1, float c2, float *__restrict__ by_mean, float *__restrict__ by_square,
                   float *__restrict__ by_product) {
  const float *__restrict__ m = windows, *__restrict__ r = m + width, *__restrict__ s = r + width;
  for (int j = 0; j < width; ++j) {
    const Similarity q = compare(m[j], r[j], s[j], u[j], v[j], c1, c2);
    // Only rounding moves SSIM outside [-1, 1]; the error is clamped there and its slope is zero.
    const float scale = (std::fabs(q.ssim) <= 1 ? -0.5f / 9 : 0.0f) / q.product;
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

void forward_band(const Problem &p, int image, int first, int last, Buffers &buffers) {
  const int width = p.width;
  float *absolute = buffers.bands.data(), *similar = absolute + kBand * width;
  float *windows = buffers.rows.data() + 2 * width;
  std::fill(buffers.bands.begin(), buffers.bands.end(), 0.0f);
  for (int channel = 0; channel < p.channels; ++channel) {
    const Plane plane(p, image, channel);
    int summed = std::max(0, first - 1);  // the first row whose sums are missing
    for (int row = first; row < last; ++row) {
      const long at = long(row) * width;
      add_difference(plane.x + at, plane.y + at, width, p.epsilon, absolute + (row - first) * width);
      if (p.weight <= 0) continue;
      for (; summed <= std::min(row + 1, p.height - 1); ++summed)
        add_sums(plane.x + long(summed) * width, plane.y + long(summed) * width, summed, buffers);
      for (int map = 0; map < 3; ++map) sum_rows(buffers.sums, map, row, p.height, windows + map * width);
      add_similarity(windows, plane.u + at, plane.v + at, width, p.c1, p.c2, similar + (row - first) * width);
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

void backward_band(const Problem &p, int image, int first, int last, Buffers &buffers) {
  const int width = p.width, height = p.height;
  const float *gradient = p.gradient + long(image) * height * width;
  float *row_sums = buffers.rows.data() + 2 * width, *spread = row_sums + width;
  float *windows = row_sums;  // no longer needed when the slopes are summed
  for (int channel = 0; channel < p.channels; ++channel) {
    const Plane plane(p, image, channel);
    int summed = std::max(0, first - 2), sloped = std::max(0, first - 1);
    for (int row = first; row < last; ++row) {
      const long at = long(row) * width;
      float *out = p.result + plane.offset + at;
      difference_slope(plane.x + at, plane.y + at, gradient + at, width, p.epsilon,
                       (1 - p.weight) / p.channels, out);
      if (p.weight <= 0) continue;
      for (; sloped <= std::min(row + 1, height - 1); ++sloped) {
        for (; summed <= std::min(sloped + 1, height - 1); ++summed)
          add_sums(plane.x + long(summed) * width, plane.y + long(summed) * width, summed, buffers);
        for (int map = 0; map < 3; ++map) sum_rows(buffers.sums, map, sloped, height, windows + map * width);
        const long there = long(sloped) * width;
        Ring &slopes = buffers.slopes;
        slopes_of_row(windows, plane.u + there, plane.v + there, gradient + there, width,
                      p.weight / p.channels, p.c1, p.c2, slopes.at(0, sloped), slopes.at(1, sloped),
                      slopes.at(2, sloped));
      }
      for (int map = 0; map < 3; ++map) {
        spread_rows(buffers.slopes, map, row, height, row_sums);
        spread_along_row(row_sums, spread + map * width, width);
      }
      add_slopes(plane.x + at, plane.y + at, spread, width, out);
    }
  }
}

using Band = void (*)(const Problem &, int, int, int, Buffers &);

void over_bands(const Problem &p, Band band, int threads) {
  const int bands = (p.height + kBand - 1) / kBand, tasks = bands * p.images_count;
  std::atomic<int> next{0};
  auto work = [&] {
    Buffers buffers(p.width);
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

}  // namespace

// Shapes: images (S, B, C, H, W), target, mean and variance (B, C, H, W), error and gradient (S, B, 1, H, W),
// result that of its images; all contiguous. n: S, B, C, H, W. numbers: SSIM's weight, e, C1, C2.
extern "C" void photometric_forward(const float *images, const float *target, const float *mean,
                                    const float *variance, const int *n, const double *numbers, float *error,
                                    int threads) {
  over_bands({images, target, mean, variance, nullptr, error, n[0] * n[1], n[1], n[2], n[3], n[4], numbers[0],
              float(numbers[1]), float(numbers[2]), float(numbers[3])},
             forward_band, threads);
}

extern "C" void photometric_backward(const float *images, const float *target, const float *mean,
                                     const float *variance, const float *gradient, const int *n,
                                     const double *numbers, float *result, int threads) {
  over_bands({images, target, mean, variance, gradient, result, n[0] * n[1], n[1], n[2], n[3], n[4],
              numbers[0], float(numbers[1]), float(numbers[2]), float(numbers[3])},
             backward_band, threads);
}
