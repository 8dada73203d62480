"""Jitted programs of finance and geometry: `PROGRAMS` and `VECTOR_PROGRAMS`, lists of (name, function, arguments, argnums).

Each of the former returns one float, each of the latter an array or a tuple of floats; all are differentiable at their data.
"""

import math
from collections import namedtuple

import numpy as np
from numba import njit

TENORS = np.array([0.25, 1.0, 2.0, 5.0, 10.0])  # a global constant array, frozen by the compiler
EARTH_RADIUS = 6371.0
Heston = namedtuple("Heston", ["v0", "kappa", "theta", "xi", "rho"])


# ------------------------------------------------------------------ finance


@njit
def normal_cdf(x):
    return 0.5 * (1.0 + math.erf(x / math.sqrt(2.0)))


@njit
def d1_d2(s, k, t, r, sigma):
    d1 = (math.log(s / k) + (r + 0.5 * sigma**2) * t) / (sigma * t**0.5)
    return d1, d1 - sigma * t**0.5


@njit
def black_scholes(spot, strikes, expiries, rate, sigma, is_call):
    prices = np.empty_like(strikes)
    for i in range(len(strikes)):
        d1, d2 = d1_d2(spot, strikes[i], expiries[i], rate, sigma[i])
        discounted = strikes[i] * math.exp(-rate * expiries[i])
        if is_call[i]:
            prices[i] = spot * normal_cdf(d1) - discounted * normal_cdf(d2)
        else:
            prices[i] = discounted * normal_cdf(-d2) - spot * normal_cdf(-d1)
    return prices.sum()


@njit
def implied_volatility(price, s, k, t, r):
    sigma = 0.3
    for _ in range(50):
        d1, d2 = d1_d2(s, k, t, r, sigma)
        error = s * normal_cdf(d1) - k * math.exp(-r * t) * normal_cdf(d2) - price
        vega = s * math.sqrt(t) * math.exp(-0.5 * d1 * d1) / math.sqrt(2 * math.pi)
        sigma -= error / vega
        if abs(error) < 1e-8:
            break
    return sigma


@njit
def american_put(s, k, r, sigma, t, steps, american=True):
    dt = t / steps
    up = math.exp(sigma * math.sqrt(dt))
    down = 1.0 / up
    p = (math.exp(r * dt) - down) / (up - down)
    discount = math.exp(-r * dt)
    values = np.zeros(steps + 1)
    for i in range(steps + 1):
        values[i] = max(k - s * up**i * down ** (steps - i), 0.0)
    for n in range(steps - 1, -1, -1):
        for i in range(n + 1):
            values[i] = discount * (p * values[i + 1] + (1 - p) * values[i])
            if american:
                values[i] = max(values[i], k - s * up**i * down ** (n - i))
    return values[0]


@njit
def heston_call(s0, model, strike, rate, t, z):
    paths, steps = z.shape[0], z.shape[1]
    dt = t / steps
    payoff = 0.0
    for p in range(paths):
        log_s = np.log(s0)
        v = model.v0
        for n in range(steps):
            w1 = z[p, n, 0]
            w2 = model.rho * w1 + np.sqrt(1.0 - model.rho**2) * z[p, n, 1]
            positive = max(v, 0.0)
            log_s += (rate - 0.5 * positive) * dt + np.sqrt(positive * dt) * w1
            v += model.kappa * (model.theta - positive) * dt + model.xi * np.sqrt(positive * dt) * w2
        s = np.exp(log_s)
        if s <= strike:
            continue
        payoff += s - strike
    return np.exp(-rate * t) * payoff / paths


@njit
def heston_from_array(params, s0, strike, z):
    model = Heston(params[0], params[1], params[2], params[3], params[4])
    return heston_call(s0, model, strike, 0.02, 1.0, z)


@njit
def asian_option(s0, sigma, rate, strike, z):
    n_paths, n_steps = z.shape
    dt = 1.0 / n_steps
    total = 0.0
    path = np.zeros(n_steps + 1)
    for p in range(n_paths):
        path[0] = s0
        for i in range(n_steps):
            path[i + 1] = path[i] * math.exp((rate - 0.5 * sigma * sigma) * dt + sigma * math.sqrt(dt) * z[p, i])
        average = np.mean(path[1:])
        total += max(average - strike, 0.0)
    return math.exp(-rate) * total / n_paths


@njit
def zero_rate(curve, t):
    if t <= TENORS[0]:
        return curve[0]
    if t >= TENORS[-1]:
        return curve[-1]
    i = 0
    while TENORS[i + 1] < t:
        i += 1
    w = (t - TENORS[i]) / (TENORS[i + 1] - TENORS[i])
    return (1 - w) * curve[i] + w * curve[i + 1]


@njit
def bond_price(curve, coupon, maturity, per_year):
    n = int(maturity * per_year)
    price = 0.0
    for i in range(1, n + 1):
        t = i / per_year
        flow = coupon / per_year
        if i == n:
            flow += 1.0
        price += flow * np.exp(-zero_rate(curve, t) * t)
    return price * 100


@njit
def portfolio_variance(w, returns, aversion):
    weights = w / np.sum(w)
    centred = np.empty_like(returns)
    for j in range(returns.shape[1]):
        centred[:, j] = returns[:, j] - returns[:, j].mean()
    C = centred.T @ centred / (returns.shape[0] - 1)
    return weights @ C @ weights * aversion - np.dot(weights, returns[0])


@njit
def drawdown(w, prices):
    value = prices @ w
    peak = value[0]
    worst = 0.0
    for v in value:
        peak = max(peak, v)
        worst = max(worst, (peak - v) / peak)
    return worst


@njit
def nelson_siegel_fit(beta, yields):
    x = TENORS / beta[3]
    slope = (1 - np.exp(-x)) / x
    fitted = beta[0] + beta[1] * slope + beta[2] * (slope - np.exp(-x))
    return np.sum((fitted - yields) ** 2)


@njit
def mortgage_value(rate, principal, payments, prepay):
    balance = principal
    payment = principal * rate / (1.0 - (1.0 + rate) ** (-payments))
    value = 0.0
    month = 0
    while month < payments:
        month += 1
        interest = balance * rate
        balance -= payment - interest
        flow = payment
        if month % 12 == 0 and month > 12:
            flow += prepay * balance
            balance *= 1.0 - prepay
        value += flow / 1.004**month
        if balance < 0.05 * principal:
            value += balance / 1.004**month
            break
    return value


# ------------------------------------------------------------------ geometry


@njit
def cross(a, b):
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@njit
def rodrigues(r):
    theta2 = r[0] * r[0] + r[1] * r[1] + r[2] * r[2]
    if theta2 < 1e-6:
        a = 1.0 - theta2 / 6.0
        b = 0.5 - theta2 / 24.0
    else:
        theta = np.sqrt(theta2)
        a = np.sin(theta) / theta
        b = (1 - np.cos(theta)) / theta2
    K = np.zeros((3, 3))
    K[0, 1], K[0, 2] = -r[2], r[1]
    K[1, 0], K[1, 2] = r[2], -r[0]
    K[2, 0], K[2, 1] = -r[1], r[0]
    return np.eye(3) + a * K + b * (K @ K)


@njit
def alignment(r, points, targets):
    R = rodrigues(r)
    moved = points @ R.T
    return np.sum((moved - targets) ** 2)


@njit
def reprojection(r, t, focal, points, pixels):
    R = rodrigues(r)
    total = 0.0
    for i in range(points.shape[0]):
        p = R @ points[i] + t
        if p[2] <= 0.1:
            continue
        u = focal * p[0] / p[2]
        v = focal * p[1] / p[2]
        total += np.sqrt(1.0 + (u - pixels[i, 0]) ** 2 + (v - pixels[i, 1]) ** 2) - 1.0
    return total


@njit
def quaternion_rotate(q, v):
    q = q / np.linalg.norm(q)
    w, u = q[0], q[1:]
    tx, ty, tz = cross(u, v)
    t = 2.0 * np.array([tx, ty, tz])
    cx, cy, cz = cross(u, t)
    return v + w * t + np.array([cx, cy, cz])


@njit
def quaternion_misfit(q, vectors, targets):
    total = 0.0
    for i in range(len(vectors)):
        d = quaternion_rotate(q, vectors[i]) - targets[i]
        total += d @ d
    return total


@njit
def polygon_area(xy):
    n = xy.shape[0]
    twice = 0.0
    for i in range(n):
        j = (i + 1) % n
        twice += xy[i, 0] * xy[j, 1] - xy[j, 0] * xy[i, 1]
    return abs(twice) / 2


@njit
def haversine(lat1, lon1, lat2, lon2):
    a = math.sin((lat2 - lat1) / 2) ** 2 + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    return 2 * EARTH_RADIUS * math.asin(math.sqrt(a))


@njit
def route_length(degrees):
    route = np.radians(degrees)
    length = 0.0
    for i in range(len(route) - 1):
        lat1, lon1 = route[i]
        lat2, lon2 = route[i + 1]
        length += haversine(lat1, lon1, lat2, lon2)
    return length


@njit
def mesh_area(vertices, faces):
    area = 0.0
    for f in range(faces.shape[0]):
        a, b, c = vertices[faces[f, 0]], vertices[faces[f, 1]], vertices[faces[f, 2]]
        area += 0.5 * np.linalg.norm(np.cross(b - a, c - a))
    return area


@njit
def surface(p, centre, radius):
    bump = 0.1 * math.sin(3 * p[0]) * math.sin(3 * p[1])
    return np.sqrt(np.sum((p - centre) ** 2)) - radius + bump


@njit
def sphere_trace(origin, direction, centre, radius):
    d = direction / np.linalg.norm(direction)
    p = origin.copy()
    t = 0.0
    steps = 0
    while steps < 400:
        distance = surface(p, centre, radius)
        if abs(distance) < 1e-12:
            break
        t += 0.7 * distance
        p[:] = origin + t * d
        steps += 1
    return t


@njit
def bezier_point(control, t):
    work = control.copy()
    n = len(work)
    for level in range(1, n):
        for i in range(n - level):
            work[i] = (1 - t) * work[i] + t * work[i + 1]
    return work[0]


@njit
def bezier_length(control, segments):
    length = 0.0
    previous = control[0]
    for s in range(1, segments + 1):
        point = bezier_point(control, s / segments)
        length += np.sqrt(((point - previous) ** 2).sum())
        previous = point
    return length


@njit
def rotation_about(axis, angle):
    c, s = np.cos(angle), np.sin(angle)
    if axis == 0:
        return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])
    elif axis == 1:
        return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


@njit
def end_effector(angles, lengths, axes):
    R = np.eye(3)
    p = np.zeros(3)
    for i in range(len(angles)):
        R = R @ rotation_about(axes[i], angles[i])
        p += R[:, 0] * lengths[i]
    return p


@njit
def reach_error(angles, lengths, axes, target):
    return np.linalg.norm(end_effector(angles, lengths, axes) - target)


@njit
def closest_point(p, a, b):
    """The squared distance of a point to a polyline given by the ends of its segments."""
    best = np.inf
    for i in range(a.shape[0]):
        e = b[i] - a[i]
        t = np.dot(p - a[i], e) / np.dot(e, e)
        t = min(max(t, 0.0), 1.0)
        r = p - (a[i] + t * e)
        best = min(best, np.dot(r, r))
    return best


@njit
def laplacian_smooth(points, rate, sweeps, closed):
    p = points.astype(np.float64)
    for _ in range(sweeps):
        old = p.copy()
        p[1:-1] += rate * (0.5 * (old[:-2] + old[2:]) - old[1:-1])
        if closed:
            p[0] += rate * (0.5 * (old[-1] + old[1]) - old[0])
            p[-1] += rate * (0.5 * (old[-2] + old[0]) - old[-1])
    edges = p[1:] - p[:-1]
    return (edges**2).sum()


# ------------------------------------------------------------------ results that are arrays or tuples


@njit
def greeks_inputs(s, k, t, r, sigma):
    d1, d2 = d1_d2(s, k, t, r, sigma)
    call = s * normal_cdf(d1) - k * math.exp(-r * t) * normal_cdf(d2)
    return call, call - s + k * math.exp(-r * t)


@njit
def discount_factors(curve, times):
    out = np.empty(times.shape[0])
    for i, t in enumerate(times):
        out[i] = np.exp(-zero_rate(curve, t) * t)
    return out


@njit
def rotate_all(r, points):
    R = rodrigues(r)
    out = np.zeros_like(points)
    for i in range(points.shape[0]):
        for j in range(3):
            for k in range(3):
                out[i, j] += R[j, k] * points[i, k]
    return out


@njit
def spherical(p):
    x, y, z = p
    r = math.sqrt(x * x + y * y + z * z)
    return r, math.acos(z / r), math.atan2(y, x)


@njit
def polygon_centroid(xy):
    area, cx, cy = 0.0, 0.0, 0.0
    for i in range(len(xy)):
        x0, y0 = xy[i - 1, 0], xy[i - 1, 1]
        x1, y1 = xy[i, 0], xy[i, 1]
        w = x0 * y1 - x1 * y0
        area += w / 2
        cx += (x0 + x1) * w
        cy += (y0 + y1) * w
    return np.array([cx, cy]) / (6 * area)


@njit
def catmull_rom(control, tension):
    n = len(control)
    out = np.zeros((2 * (n - 3), 2))
    row = 0
    for i in range(1, n - 2):
        m0 = tension * (control[i + 1] - control[i - 1])
        m1 = tension * (control[i + 2] - control[i])
        for t in (0.0, 0.5):
            t2, t3 = t**2, t**3
            out[row] = (2 * t3 - 3 * t2 + 1) * control[i] + (t3 - 2 * t2 + t) * m0
            out[row] += (3 * t2 - 2 * t3) * control[i + 1] + (t3 - t2) * m1
            row += 1
    return out


def programs():
    """The two lists of programs with their data."""
    rng = np.random.default_rng(23)
    normal = rng.normal
    strikes, expiries = np.linspace(80.0, 120.0, 7), np.linspace(0.3, 2.0, 7)
    curve = np.array([0.02, 0.025, 0.028, 0.033, 0.036])
    z = normal(size=(20, 10, 2))
    angle = 2 * np.pi * (np.arange(7) + 0.6 * rng.random(7)) / 7
    polygon = np.column_stack((np.cos(angle), np.sin(angle))) * (0.5 + rng.random((7, 1)))
    cities = np.array([[48.2, 16.4], [52.5, 13.4], [59.3, 18.1], [41.9, 12.5]])
    r, points, small = normal(size=3), normal(size=(5, 3)), np.array([1e-5, -2e-5, 1.5e-5])
    ahead = points + np.array([0.0, 0.0, 5.0])
    angles, lengths, axes = normal(size=5), rng.random(5) + 0.5, np.array([2, 1, 1, 0, 2])
    eye, ray, centre = np.array([0.0, 0.1, -4.0]), np.array([0.05, 0.02, 1.0]), np.array([0.1, 0.0, 0.3])
    control = normal(size=(6, 2))
    scalars = [
        ("black_scholes", black_scholes, (100.0, strikes, expiries, 0.03, 0.2 + 0.1 * rng.random(7), rng.random(7) < 0.5),
         (0, 1, 2, 3, 4)),
        ("implied_volatility", implied_volatility, (11.0, 100.0, 98.0, 0.8, 0.02), (0, 1, 2, 3, 4)),
        ("american_put", american_put, (100.0, 103.3, 0.04, 0.25, 1.0, 30), (0, 1, 2, 3, 4)),
        ("european_put_tree", american_put, (100.0, 103.3, 0.04, 0.25, 1.0, 25, False), (0, 3)),
        ("heston_call", heston_call, (100.0, Heston(0.09, 1.5, 0.08, 0.2, -0.6), 97.0, 0.02, 1.0, z), (0, 2, 3, 4, 5)),
        ("heston_from_array", heston_from_array, (np.array([0.09, 1.5, 0.08, 0.2, -0.6]), 100.0, 97.0, z), (0, 1)),
        ("asian_option", asian_option, (100.0, 0.25, 0.03, 99.0, normal(size=(15, 12))), (0, 1, 2, 3)),
        ("bond_price", bond_price, (curve, 0.04, 7.0, 2), (0, 1)),
        ("portfolio_variance", portfolio_variance, (rng.random(4) + 0.2, 0.1 * normal(size=(15, 4)), 3.0), (0, 1, 2)),
        ("drawdown", drawdown, (rng.random(3) + 0.2, np.exp(np.cumsum(0.1 * normal(size=(20, 3)), 0))), (0, 1)),
        ("nelson_siegel_fit", nelson_siegel_fit, (np.array([0.04, -0.02, 0.01, 1.8]), curve), (0, 1)),
        ("mortgage_value", mortgage_value, (0.005, 1000.0, 120, 0.07), (0, 1, 3)),
        ("alignment", alignment, (r, points, normal(size=(5, 3))), (0, 1)),
        ("alignment_small_angle", alignment, (small, points, normal(size=(5, 3))), (0,)),
        ("reprojection", reprojection, (0.3 * r, 0.1 * normal(size=3), 2.0, ahead, normal(size=(5, 2))), (0, 1, 2, 3)),
        ("quaternion_misfit", quaternion_misfit, (normal(size=4), points, normal(size=(5, 3))), (0, 1)),
        ("polygon_area", polygon_area, (polygon,), (0,)),
        ("route_length", route_length, (cities,), (0,)),
        ("mesh_area", mesh_area, (normal(size=(5, 3)), np.array([[0, 1, 2], [0, 2, 3], [0, 3, 4], [1, 2, 4]])), (0,)),
        ("sphere_trace", sphere_trace, (eye, ray, centre, 1.2), (0, 1, 2, 3)),
        ("bezier_length", bezier_length, (control, 16), (0,)),
        ("reach_error", reach_error, (angles, lengths, axes, np.array([1.0, 0.5, -0.3])), (0, 1, 3)),
        ("closest_point", closest_point, (normal(size=3), normal(size=(4, 3)), normal(size=(4, 3))), (0, 1, 2)),
        ("laplacian_smooth", laplacian_smooth, (normal(size=(8, 2)).astype(np.float32), 0.4, 3, True), (0, 1)),
    ]
    vectors = [
        ("greeks_inputs", greeks_inputs, (100.0, 95.0, 0.7, 0.02, 0.3), (0, 1, 2, 3, 4)),
        ("discount_factors", discount_factors, (curve, np.array([0.1, 0.7, 1.5, 4.0, 8.0, 12.0])), (0, 1)),
        ("rotate_all", rotate_all, (r, points), (0, 1)),
        ("quaternion_rotate", quaternion_rotate, (normal(size=4), normal(size=3)), (0, 1)),
        ("spherical", spherical, (np.array([0.4, -0.7, 1.1]),), (0,)),
        ("polygon_centroid", polygon_centroid, (polygon,), (0,)),
        ("catmull_rom", catmull_rom, (control, 0.5), (0, 1)),
        ("end_effector", end_effector, (angles, lengths, axes), (0, 1)),
    ]
    return scalars, vectors


PROGRAMS, VECTOR_PROGRAMS = programs()
