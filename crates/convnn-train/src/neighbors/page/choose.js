// The choice of neighbors, as docs/specification.md defines it: all cells and the padding are candidates, a cell is its own
// first neighbor, and of equally close candidates the one with the lower number on the padded map comes first.
//
// Features and positions are whole numbers here, so that equal distances are equal numbers.
const Neighbors = (() => {
  function prepare(raw) {
    const { width, height, channels, padding } = raw;
    const bytes = Uint8Array.from(atob(raw.values), (character) => character.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    const values = Float64Array.from({ length: bytes.length / 2 }, (_, i) => view.getInt16(2 * i, true));
    const [W, H] = [width + 2 * padding, height + 2 * padding];
    const [across, down] = [Math.max(W - 1, 1), Math.max(H - 1, 1)];
    const centered = (i, side) => (side === 1 ? -1 : 2 * i - (side - 1));
    const places = W * H;
    // Row among the values of each place of the padded map, -1 for padding; squared length; position.
    const [rows, squares] = [new Int32Array(places).fill(-1), new Float64Array(places)];
    const [px, py] = [new Float64Array(places), new Float64Array(places)];
    for (let place = 0; place < places; place++) {
      const [x, y] = [place % W, Math.floor(place / W)];
      px[place] = centered(x, W) * down;
      py[place] = centered(y, H) * across;
      const [column, row] = [x - padding, y - padding];
      if (column < 0 || row < 0 || column >= width || row >= height) continue;
      rows[place] = row * width + column;
      for (let c = 0, at = rows[place] * channels; c < channels; c++) squares[place] += values[at + c] ** 2;
    }
    const unit = 1 / (across * down); // of the positions, in those from -1 to 1
    return { ...raw, values, W, H, places, rows, squares, px, py, unit, deviation: raw.sigma / raw.scale, last: null };
  }

  const placeOf = (space, x, y) => (y + space.padding) * space.W + x + space.padding;

  // What the similarity needs of the features: a product, or a distance, to every place. It does not depend on λ.
  function features(space, own, similarity) {
    const { last, values, channels, rows, places } = space;
    if (last && last.own === own && last.similarity === similarity) return last.found;
    const found = last ? last.found : new Float64Array(places);
    const query = values.subarray(rows[own] * channels, (rows[own] + 1) * channels);
    for (let place = 0; place < places; place++) {
      const at = rows[place] * channels;
      let sum = 0;
      if (similarity === "cosine") {
        if (at >= 0) for (let c = 0; c < channels; c++) sum += query[c] * values[at + c];
      } else if (similarity === "euclidean") {
        for (let c = 0; c < channels; c++) {
          const difference = query[c] - (at >= 0 ? values[at + c] : 0);
          sum += difference * difference;
        }
      } else {
        for (let c = 0; c < channels; c++) sum += Math.abs(query[c] - (at >= 0 ? values[at + c] : 0));
      }
      found[place] = sum;
    }
    space.last = { own, similarity, found };
    return found;
  }

  // The score of every place for a cell; larger is closer.
  function scores(space, x, y, similarity, lambda) {
    const { places, px, py, squares, unit, deviation } = space;
    const own = placeOf(space, x, y);
    const f = features(space, own, similarity);
    // Weights of features and positions; at the ends of the walk there is only one of them.
    const [a, b] = lambda === 0 ? [0, 1] : lambda === 1 ? [1, 0] : [lambda / deviation, (1 - lambda) * unit];
    const [a2, b2, qx, qy] = [a * a, b * b, px[own], py[own]];
    const out = new Float64Array(places);
    const norm = (place) =>
      Math.max(Math.sqrt(a2 * squares[place] + b2 * (px[place] * px[place] + py[place] * py[place])), 1e-12);
    const ownNorm = norm(own);
    for (let place = 0; place < places; place++) {
      const [dx, dy] = [px[place] - qx, py[place] - qy];
      if (similarity === "euclidean") {
        out[place] = -(a2 * f[place] + b2 * (dx * dx + dy * dy));
      } else if (similarity === "manhattan") {
        out[place] = -(a * f[place] + b * (Math.abs(dx) + Math.abs(dy)));
      } else {
        const product = px[place] * qx + py[place] * qy;
        if (a === 0) {
          // A ratio of whole numbers has the order of the cosine, and equal directions tie.
          const square = px[place] * px[place] + py[place] * py[place];
          out[place] = (Math.sign(product) * product * product) / Math.max(square, 1);
        } else {
          const cosine = (a2 * f[place] + b2 * product) / (ownNorm * norm(place));
          out[place] = Math.min(Math.max(cosine, -1), 1);
        }
      }
    }
    return { own, scores: out };
  }

  // The K nearest places for a cell, the cell itself first.
  function choose(space, x, y, { k, similarity, lambda }) {
    const { own, scores: all } = scores(space, x, y, similarity, lambda);
    const chosen = [];
    const most = Math.min(k, space.places) - 1;
    for (let place = 0; most > 0 && place < space.places; place++) {
      if (place === own) continue;
      const score = all[place];
      if (chosen.length === most && score <= all[chosen[most - 1]]) continue;
      let at = chosen.length < most ? chosen.length : most - 1;
      while (at > 0 && all[chosen[at - 1]] < score) {
        chosen[at] = chosen[at - 1];
        at--;
      }
      chosen[at] = place;
    }
    return { own, scores: all, places: [own, ...chosen] };
  }

  return { prepare, placeOf, choose };
})();
