"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const root = document.documentElement;
  const themed = []; // what has to be drawn again in other colours

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name in made && name !== "style") made[name] = value;
      else made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  }
  const number = (value, digits = 4) =>
    value === null || value === undefined ? "–" : Number(value).toLocaleString("en-US", { maximumSignificantDigits: digits });
  /** Scores, whatever their size, to a hundredth; what is not finite has no number. */
  const score = (value) => (value === null || value === undefined ? "–" : Number(value).toLocaleString("en-US", { maximumFractionDigits: 2 }));
  const fixed = (value, digits) => (value === null ? "–" : value.toFixed(digits));
  const extreme = (choose, values) => {
    const known = values.filter((value) => value !== null);
    return known.length ? choose(...known) : 0;
  };
  const whole = (value) => (value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en-US"));
  const imageSource = (encoded) => `data:image/${encoded.startsWith("/9j/") ? "jpeg" : "png"};base64,${encoded}`;
  const color = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  const say = (where, messages) => messages.forEach((message) => where.append(element("p", { className: "note" }, message)));

  // ---- light and dark

  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  function showTheme() {
    const theme = chosen || (prefersDark.matches ? "dark" : "light");
    root.dataset.theme = theme;
    $("theme").textContent = theme === "dark" ? "☀" : "☾";
    themed.forEach((draw) => draw());
  }
  $("theme").onclick = () => {
    chosen = root.dataset.theme === "dark" ? "light" : "dark";
    showTheme();
  };
  prefersDark.addEventListener("change", showTheme);

  // ---- charts

  const config = {
    displaylogo: false, responsive: true, displayModeBar: innerWidth < 640 ? false : "hover", modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]],
  };
  const palette = () => [color("accent"), color("taken"), color("good"), color("muted"), color("bad")];
  function layout(changes) {
    const axis = { gridcolor: color("line"), zerolinecolor: color("line"), linecolor: color("line"), automargin: true };
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: color("text"), size: 12, family: "inherit" },
      margin: { l: 48, r: 12, t: 8, b: 40 }, hovermode: "closest", modebar: { bgcolor: "rgba(0,0,0,0)", color: color("muted"), activecolor: color("accent") }, colorway: palette(), showlegend: true,
      legend: { orientation: "h", traceorder: "normal", y: 1.02, yanchor: "bottom", x: 0, font: { size: 11 } },
      ...changes, xaxis: { ...axis, ...changes.xaxis }, yaxis: { ...axis, ...changes.yaxis },
    };
  }
  function alpha(hex, opacity) {
    return hex + Math.round(255 * opacity).toString(16).padStart(2, "0");
  }
  /** A chart that is drawn again when the theme changes, zoom kept by uirevision. */
  function chart(where, traces, changes) {
    const draw = () => Plotly.react(where, traces(), { uirevision: 1, ...layout(changes()) }, config);
    draw();
    themed.push(draw);
  }

  // ---- top

  $("title").textContent = data.title;
  $("subtitle").textContent = `${data.label} · ${data.folder}`;
  $("subtitle").title = data.label;
  say($("notes"), data.notes);
  const facts = data.training.facts;
  const duration = (seconds) => (seconds === null ? "–" : seconds >= 5400 ? `${(seconds / 3600).toFixed(1)} h` : seconds >= 90 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds)} s`);
  for (const [value, name] of [
    [data.algo, "algorithm"],
    [whole(facts.steps), "agent steps of training"],
    [whole(facts.games), "games of training"],
    [score(facts.last_mean), "mean of the last 30"],
    [data.test.results.length ? score(data.test.results[0].mean) : "–", `mean score in tests${data.test.results[0]?.protocol ? ` (${data.test.results[0].protocol})` : ""}`],
    [duration(facts.seconds), "of training"],
  ]) $("facts").append(element("div", { className: "fact" }, element("b", {}, value), element("span", {}, name)));

  // ---- training

  say($("training-missing"), data.training.missing);
  const linked = [];
  for (const [position, of] of data.training.charts.entries()) {
    const plot = element("div", { className: "chart", id: `chart-${of.key}` });
    $("charts").append(element("div", { className: `card${of.key === "scores" ? " wide" : ""}` }, element("h3", {}, of.title), plot));
    const traces = () => {
      const colors = palette();
      return of.lines.flatMap((line, index) => {
        if (line.kind === "band") {
          const area = { x: line.x, mode: "lines", line: { width: 0 }, hoverinfo: "skip", legendgroup: "band" };
          return [
            { ...area, y: line.low, showlegend: false },
            { ...area, y: line.y, fill: "tonexty", fillcolor: alpha(colors[1], 0.18), name: line.name },
          ];
        }
        const dots = line.kind === "markers";
        return [{
          x: line.x, y: line.y, name: line.name, mode: line.x.length === 1 ? "markers" : line.kind,
          line: { width: 2, color: colors[of.key === "scores" ? [0, 0, 1][index] : index] },
          marker: {
            size: dots ? 5 : 7, symbol: line.kind === "lines+markers" && of.key === "scores" ? "diamond" : "circle",
            color: colors[of.key === "scores" ? [0, 0, 1][index] : index], opacity: dots ? 0.3 : 1,
          },
        }];
      });
    };
    chart(plot, traces, () => ({
      xaxis: { title: { text: "agent steps", font: { size: 11 } } }, yaxis: { title: { text: of.unit, font: { size: 11 } }, rangemode: ["epsilon", "learning_rate", "speed"].includes(of.key) ? "tozero" : "normal" },
      showlegend: of.lines.length > 1,
    }));
    linked.push(plot);
    plot.on("plotly_relayout", (change) => {
      const range = "xaxis.range[0]" in change ? [change["xaxis.range[0]"], change["xaxis.range[1]"]] : null;
      if (!range && !change["xaxis.autorange"]) return;
      for (const other of linked) {
        if (other === plot) continue;
        const now = other.layout.xaxis;
        if (range ? now.autorange !== false || now.range[0] !== range[0] || now.range[1] !== range[1] : now.autorange === false) {
          Plotly.relayout(other, range ? { "xaxis.range": range } : { "xaxis.autorange": true });
        }
      }
    });
  }

  // ---- test

  say($("test-missing"), data.test.missing);
  const results = data.test.results;
  $("test-body").hidden = !results.length;
  if (results.length) {
    const row = (cells, tag = "td", className = "") => element("tr", { className }, ...cells.map((cell) => element(tag, {}, cell)));
    const percent = (value) => (value === null || value === undefined ? "–" : `${number(100 * value, 3)} %`);
    $("test-table").append(
      row(["", "games", "mean", "95 % interval", "std", "min", "median", "max", "human-normalised"], "th"),
      ...results.map((of) => row([
        of.name, String(of.scores.length), score(of.mean), of.low === null ? "–" : `${score(of.low)} to ${score(of.high)}`,
        score(of.std), score(of.minimum), score(of.median), score(of.maximum), percent(of.normalized),
      ])),
      ...data.test.references.map((of) => row([of.name, "", score(of.score), "", "", "", "", "", percent(of.normalized)], "td", "reference")),
    );
    results.forEach((of, index) => $("test-choice").append(element("option", { value: index }, of.name)));
    $("test-choice").hidden = results.length === 1;
    const shown = () => results[Number($("test-choice").value || 0)];
    chart($("histogram"), () => [{ x: shown().scores, type: "histogram", nbinsx: 20, marker: { color: color("accent"), line: { width: 1, color: color("card") } } }],
      () => ({ xaxis: { title: { text: "score", font: { size: 11 } } }, yaxis: { title: { text: "games", font: { size: 11 } }, ...(shown().scores.length <= 10 ? { dtick: 1 } : {}) }, showlegend: false, bargap: 0.04 }));
    const comparable = () => shown().compares && data.test.references.length > 0;
    themed.push(() => { $("references-card").hidden = !comparable(); });
    chart($("references"), () => {
      const bars = [{ name: "this run", score: shown().mean }, ...data.test.references].reverse();
      return [{
        type: "bar", orientation: "h", x: bars.map((bar) => bar.score), y: bars.map((bar) => bar.name),
        text: bars.map((bar) => score(bar.score)), textposition: "auto", insidetextfont: { color: color("text") },
        marker: { color: bars.map((bar) => (bar.name === "this run" ? color("taken") : alpha(color("muted"), 0.45))) },
      }];
    }, () => ({ xaxis: { title: { text: "mean score", font: { size: 11 } } }, showlegend: false }));
    $("test-choice").onchange = showTheme;
  }

  // ---- player

  const game = data.player;
  let outputsLayer = null;
  let outputsStep = 0;
  $("player-body").hidden = !game;
  if (!game) say($("player-missing"), [data.player_missing]);
  else player();

  function player() {
    const n = game.numbers.length;
    let now = 0;
    let timer = null;
    const best = game.best;
    const top = game.q_values.map((values) => extreme(Math.max, values));
    const bottom = game.q_values.map((values) => extreme(Math.min, values));
    const [lowest, highest] = [bottom.reduce((a, b) => Math.min(a, b)), top.reduce((a, b) => Math.max(a, b))];
    $("player-hint").textContent =
      `${game.n_steps.toLocaleString("en-US")} steps, score ${score(game.score)}` +
      (game.ends ? "" : "; the game did not end, recording was stopped") +
      (game.stride > 1 ? `. So long a game is thinned: one of ${game.stride} steps and the moments below are shown` : "") +
      `. Model ${data.model.file}, ${data.model.steps.toLocaleString("en-US")} agent steps. Keys: ← → one step, with shift ten; space plays; home and end.`;

    // what is seen
    const hasImages = game.inputs[0].length > 0;
    const views = game.inputs[0].map((_, channel) => {
      const image = element("img", { alt: "" });
      const overlay = element("i");
      const name = game.channels[channel] || `channel ${channel}`;
      $("inputs").append(element("div", { className: "channel-box" }, element("div", { className: "channel-view" }, image, overlay), element("span", { className: "channel-name" }, name)));
      const channels = game.inputs[0].length;
      overlay.style.backgroundSize = `${100 * channels}% 100%`;
      overlay.style.backgroundPosition = `${channels > 1 ? (100 * channel) / (channels - 1) : 0}% 0`;
      return { image, overlay };
    });
    $("inputs").className = views.length > 1 ? "" : "single";
    $("saliency-label").hidden = !hasImages;
    $("saliency-switch").onchange = () => $("inputs").classList.toggle("with-saliency", $("saliency-switch").checked);
    $("saliency-label").title = "how much each pixel counts for the best action's Q-value: its absolute gradient, the brighter the more";
    if (game.pictures[0] === null) $("game").alt = "this environment shows no picture";

    // bars
    $("bars").className = game.actions.length > 9 ? "many" : "";
    $("bars").style.setProperty("--names", `${Math.max(...game.actions.map((name) => name.length)) + 7}ch`);
    const bars = game.actions.map((name) => {
      const bar = element("i");
      const label = element("span", { className: "name" });
      const digits = element("span", { className: "digits" });
      const row = element("div", { className: "value" }, label, element("div", { className: "track" }, bar), digits);
      $("bars").append(row);
      return { bar, label, digits, row, name };
    });
    function showBars() {
      const values = game.q_values[now];
      const onlyDifferences = $("spread-switch").checked;
      const low = onlyDifferences ? bottom[now] : Math.min(0, lowest);
      const high = onlyDifferences ? top[now] : Math.max(0, highest);
      const scale = high > low ? 100 / (high - low) : 0;
      const zero = onlyDifferences ? 0 : -low * scale;
      bars.forEach(({ bar, label, digits, row, name }, action) => {
        const end = (values[action] - low) * scale;
        bar.style.left = `${Math.min(zero, end)}%`;
        bar.style.width = `${Math.max(Math.abs(end - zero), 0.6)}%`;
        const taken = action === game.taken[now];
        label.textContent = taken ? `${name} (taken)` : name;
        digits.textContent = fixed(values[action], 3);
        row.className = `value${taken ? " taken" : ""}${action === best[now] ? " best" : ""}`;
      });
    }
    $("spread-switch").onchange = showBars;

    // the steps around
    const REACH = 4;
    const cell = (tag, className, text) => element(tag, { className }, text);
    function showAround() {
      const indices = [];
      for (let index = now - REACH; index <= now + REACH; index++) indices.push(index);
      const is = (index) => index >= 0 && index < n; // the first and last steps have fewer around them
      const mark = (index) => (index === now ? "now" : "");
      const heads = indices.map((index) => {
        const head = cell("th", mark(index), "");
        if (!is(index)) return head;
        if (game.pictures[index] !== null) head.append(element("img", { src: imageSource(game.images[game.pictures[index]]), alt: "" }));
        head.append(`step ${game.numbers[index].toLocaleString("en-US")}`);
        head.onclick = () => show(index);
        return head;
      });
      const rows = game.actions.map((name, action) => element("tr", {}, cell("th", "", name), ...indices.map((index) =>
        is(index) ? cell("td", `${mark(index)}${action === game.taken[index] ? " taken" : ""}`, fixed(game.q_values[index][action], 3)) : cell("td", "", ""))));
      const rewards = element("tr", {}, cell("th", "", "reward"), ...indices.map((index) =>
        is(index) ? cell("td", mark(index), (game.lost_lives[index] ? "life lost " : "") + score(game.rewards[index])) : cell("td", "", "")));
      $("around").replaceChildren(element("thead", {}, element("tr", {}, cell("th", "", ""), ...heads)), element("tbody", {}, ...rows), element("tfoot", {}, rewards));
      const scroll = $("around").parentElement;
      const head = heads[indices.indexOf(now)];
      scroll.scrollLeft = head.offsetLeft - (scroll.clientWidth - head.offsetWidth) / 2;
    }

    // over time
    const where = (mask) => game.numbers.map((_, index) => index).filter(mask);
    const marks = (name, indices, symbol, of) => ({
      x: indices.map((index) => game.numbers[index]), y: indices.map((index) => top[index]), name, mode: "markers",
      marker: { symbol, size: 9, color: color(of), line: { width: 1, color: color("card") } },
    });
    const line = () => ({
      type: "line", yref: "paper", y0: 0, y1: 1, x0: game.numbers[now], x1: game.numbers[now], line: { color: color("taken"), width: 2 },
    });
    chart($("q-time"), () => [
      { x: game.numbers, y: bottom, mode: "lines", name: "lowest", line: { width: 1, color: alpha(color("accent"), 0.5) } },
      { x: game.numbers, y: top, mode: "lines", name: "highest", fill: "tonexty", fillcolor: alpha(color("accent"), 0.18), line: { width: 2, color: color("accent") } },
      ...[
        marks("reward", where((index) => game.rewards[index] > 0), "triangle-up", "good"),
        marks("penalty", where((index) => game.rewards[index] < 0), "triangle-down", "bad"),
        marks("life lost", where((index) => game.lost_lives[index]), "x", "bad"),
      ].filter((trace) => trace.x.length && trace.x.length < n / 4),
      ...game.actions.map((name, action) => ({
        x: game.numbers, y: game.q_values.map((values) => values[action]), name, mode: "lines", visible: "legendonly", line: { width: 1.2 },
      })),
    ], () => ({
      xaxis: { title: { text: "step", font: { size: 11 } } }, yaxis: { title: { text: "Q-value", font: { size: 11 } } },
      hovermode: "x", shapes: [line()], colorway: ["#8884d8", "#3aa6a0", "#c2628f", "#9a8438", "#6b8bd0", "#7f9c4c", "#b0704a"],
    }));
    $("q-time").on("plotly_click", (event) => show(nearest(game.numbers, event.points[0].x)));

    // distribution
    const distribution = game.distribution;
    $("distribution-card").hidden = !distribution;
    let shares = null;
    let range = null;
    if (distribution) {
      const bytes = Uint8Array.from(atob(distribution.data), (letter) => letter.charCodeAt(0));
      shares = new Float32Array(bytes.buffer);
      if (distribution.positions) range = [distribution.positions[0], distribution.positions[distribution.n - 1]];
      else {
        range = [Infinity, -Infinity];
        for (const value of shares) range = [Math.min(range[0], value), Math.max(range[1], value)];
      }
      $("distribution-title").textContent = distribution.positions ? "Distribution of returns: probability of each" : "Distribution of returns: probability of this or less";
    }
    function showDistribution() {
      if (!distribution) return;
      const [width, height, left, below] = [$("distribution").clientWidth || 900, 260, 40, 24];
      const [low, high] = range[1] > range[0] ? range : [range[0] - 1, range[0] + 1];
      const of = (action) => shares.subarray((now * game.actions.length + action) * distribution.n, (now * game.actions.length + action + 1) * distribution.n);
      let most = 1;
      if (distribution.positions) most = Math.max(...game.actions.map((_, action) => Math.max(...of(action))), 1e-9);
      const x = (value) => left + ((value - low) / (high - low)) * (width - left - 10);
      const y = (share) => height - below - (share / most) * (height - below - 10);
      const paths = game.actions.map((name, action) => {
        const values = of(action);
        let path = "";
        for (let index = 0; index < distribution.n; index++) {
          if (distribution.positions) path += `${index ? "L" : "M"}${x(distribution.positions[index]).toFixed(1)},${y(values[index]).toFixed(1)}`;
          else path += `${index ? "H" : "M"}${x(values[index]).toFixed(1)}${index ? "V" : ","}${y((index + 1) / distribution.n).toFixed(1)}`;
        }
        const role = action === game.taken[now] ? "taken" : action === best[now] ? "accent" : "muted";
        return { path, role, name };
      }).sort((a, b) => ["muted", "accent", "taken"].indexOf(a.role) - ["muted", "accent", "taken"].indexOf(b.role));
      const ticks = [0, 0.25, 0.5, 0.75, 1].map((share) => low + share * (high - low));
      $("distribution").innerHTML =
        `<svg viewBox="0 0 ${width} ${height}" role="img">` +
        `<line x1="${left}" x2="${width - 10}" y1="${height - below}" y2="${height - below}" stroke="${color("line")}"/>` +
        ticks.map((tick) => `<text x="${x(tick)}" y="${height - 6}" text-anchor="middle">${number(tick, 3)}</text>`).join("") +
        `<text x="4" y="${y(most) + 4}">${number(most, 2)}</text><text x="4" y="${height - below}">0</text>` +
        paths.map(({ path, role }) => `<path d="${path}" fill="none" stroke="${color(role)}" stroke-width="${role === "muted" ? 1 : 2.5}" vector-effect="non-scaling-stroke" opacity="${role === "muted" ? 0.45 : 1}"/>`).join("") +
        "</svg>";
      const taken = game.actions[game.taken[now]];
      const key = best[now] === game.taken[now] ? "" : `, blue: ${game.actions[best[now]]}, the best`;
      $("distribution").append(element("p", { className: "hint" }, `orange: ${taken} (taken)${key}, thin: the others`));
    }
    themed.push(showDistribution);
    addEventListener("resize", showDistribution);

    // moments
    const MOMENTS = {
      reward: "highest reward", q_max: "highest Q-value", life: "loss of a life",
      largest: "largest difference between actions", smallest: "smallest difference between actions",
    };
    for (const [key, name] of Object.entries(MOMENTS)) {
      const { at, missing, n = at.length } = game.moments[key];
      const count = n > at.length ? `${at.length} of ${n}` : at.length;
      const button = element("button", { type: "button", id: `jump-${key}`, disabled: !at.length, title: missing || "" }, at.length > 1 ? `${name} (${count})` : name);
      button.onclick = () => show(at.find((index) => index > now) ?? at[0]);
      $("jumps").append(button);
      if (missing) $("jumps").append(element("span", { className: "hint", style: "align-self:center;margin:0" }, missing));
    }

    // steps
    $("slider").max = n - 1;
    function show(index) {
      now = Math.max(0, Math.min(n - 1, index));
      $("slider").value = now;
      $("step-label").textContent = `step ${game.numbers[now].toLocaleString("en-US")} of ${(game.n_steps - 1).toLocaleString("en-US")}`;
      if (game.pictures[now] !== null) $("game").src = imageSource(game.images[game.pictures[now]]);
      views.forEach(({ image, overlay }, channel) => {
        image.src = imageSource(game.images[game.inputs[now][channel]]);
        overlay.style.backgroundImage = `url("${imageSource(game.images[game.saliency[now]])}")`;
      });
      const numbers = game.numbers_seen[now];
      if (numbers) $("inputs").replaceChildren(...numbers.map((value, place) => element("div", { className: "number-seen" }, element("span", {}, String(place)), number(value))));
      showBars();
      showAround();
      showDistribution();
      const reward = game.rewards[now];
      $("outcome").replaceChildren(
        `Score ${score(game.scores[now])} before this step; reward `,
        element("span", { className: reward > 0 ? "good" : reward < 0 ? "bad" : "" }, score(reward)),
        game.lost_lives[now] ? element("span", { className: "bad" }, "; a life is lost") : "",
        best[now] === game.taken[now] ? "" : "; the action was not the best but a random one",
        ".",
      );
      Plotly.relayout($("q-time"), { "shapes[0].x0": game.numbers[now], "shapes[0].x1": game.numbers[now] });
      showOutputs(game.numbers[now]);
    }
    function play(on) {
      clearInterval(timer);
      timer = on ? setInterval(() => (now < n - 1 ? show(now + 1) : play(false)), (1000 * game.stride) / Number($("speed").value)) : null;
      $("play").textContent = on ? "❚❚" : "▶";
      $("play").setAttribute("aria-label", on ? "pause" : "play");
    }
    const toggle = () => {
      if (timer === null && now === n - 1) show(0);
      play(timer === null);
    };
    $("play").onclick = toggle;
    $("speed").onchange = () => timer !== null && play(true);
    $("slider").oninput = () => show(Number($("slider").value));
    document.addEventListener("keydown", (event) => {
      const box = $("player-body").getBoundingClientRect();
      const reading = box.bottom < 80 || box.top > innerHeight - 80; // another part of the page
      const switches = event.target.type === "checkbox"; // which the space key is for
      const typing = event.target.tagName === "SELECT" || (event.target.tagName === "INPUT" && event.target.id !== "slider" && !switches);
      if (reading || typing || event.ctrlKey || event.metaKey || event.altKey) return;
      const far = event.shiftKey ? 10 : 1;
      const act = {
        ArrowLeft: () => show(now - far), ArrowRight: () => show(now + far), Home: () => show(0), End: () => show(n - 1), " ": toggle,
      }[event.key];
      const elsewhere = switches || (event.target.tagName === "BUTTON" && event.target.id !== "play");
      if (!act || (event.key === " " && elsewhere)) return;
      event.preventDefault();
      if (event.key === " " && event.repeat) return;
      act();
    });
    play(false);
    outputs();
    show(0);
  }

  function nearest(sorted, value) {
    let at = 0;
    sorted.forEach((candidate, index) => {
      if (Math.abs(candidate - value) < Math.abs(sorted[at] - value)) at = index;
    });
    return at;
  }

  // ---- network

  function choice(where, names, choose) {
    const buttons = names.map((name) => element("button", { type: "button", onclick: () => press(name) }, name));
    const press = (name) => {
      buttons.forEach((button) => button.setAttribute("aria-pressed", button.textContent === name));
      choose(name);
    };
    where.append(...buttons);
    press(names[0]);
  }

  function showOutputs(step) {
    outputsStep = step;
    if (!game || !game.layers.length || outputsLayer === null) return;
    const kept = game.layers[nearest(game.layers.map((of) => of.step), step)];
    const layer = kept.layers[outputsLayer];
    $("outputs").src = imageSource(layer.image);
    $("outputs").width = layer.size[0];
    $("outputs").height = layer.size[1];
    $("outputs").style.height = "auto";
    const [filters, height, width] = layer.shape;
    $("outputs-hint").textContent =
      `Step ${kept.step.toLocaleString("en-US")}${kept.step === step ? "" : `, the nearest to step ${step.toLocaleString("en-US")} of which outputs are kept`}: ` +
      `${filters} filters, ${height}x${width} each, from 0 to ${number(layer.largest, 3)}.`;
  }
  function outputs() {
    if (!game.layers.length) return;
    choice($("outputs-layers"), Object.keys(game.layers[0].layers), (name) => {
      outputsLayer = name;
      showOutputs(outputsStep);
    });
    $("inverted").onchange = () => $("outputs").classList.toggle("inverted", $("inverted").checked);
  }

  const network = data.network;
  $("network-body").hidden = !network.layers.length;
  if (!network.layers.length) say($("network-missing"), [`This part is left out: ${network.missing}.`]);
  else weights();
  $("outputs-card").hidden = !game || !game.layers.length;

  function weights() {
    let layer = network.layers[0];
    function show() {
      const index = Number($("weights-channel").value);
      const channel = layer.channels[index];
      const [filters, channels, height, width] = layer.shape;
      $("weights-channel-label").textContent = `${index} of 0 to ${channels - 1}`;
      $("weights-hint").textContent = `${filters} filters, ${height}x${width} each.` +
        (layer.channels.length < channels ? ` The first ${layer.channels.length} of ${channels} input channels are shown.` : "");
      const line = (name, values, tag) => element("tr", {}, element("th", {}, name), ...values.map((value) => element(tag, {}, value)));
      const digits = (values) => values.map((value) => fixed(value, 5));
      $("weights-statistics").replaceChildren(
        line("", ["minimum", "maximum", "mean", "standard deviation"], "th"),
        line(`channel ${index}`, digits(channel.statistics), "td"),
        line("all channels", digits(layer.all), "td"),
      );
      const columns = Math.ceil(Math.sqrt(filters));
      const rows = Math.ceil(filters / columns);
      const canvas = $("weights");
      canvas.width = columns * (width + 1) + 1;
      canvas.height = rows * (height + 1) + 1;
      const context = canvas.getContext("2d");
      const image = context.createImageData(canvas.width, canvas.height);
      const bytes = atob(channel.data);
      for (let filter = 0; filter < filters; filter++) {
        const left = 1 + (filter % columns) * (width + 1);
        const top = 1 + Math.floor(filter / columns) * (height + 1);
        for (let place = 0; place < height * width; place++) {
          const value = (bytes.charCodeAt(filter * height * width + place) - 127) / 127;
          const pixel = 4 * ((top + Math.floor(place / width)) * canvas.width + left + (place % width));
          image.data.set([...seismic(value), 255], pixel);
        }
      }
      context.putImageData(image, 0, 0);
      const ends = $("weights-scale").querySelectorAll("span");
      ends[0].textContent = channel.limit === null ? "–" : (-channel.limit).toFixed(4);
      ends[1].textContent = fixed(channel.limit, 4);
    }
    $("weights-channel").oninput = show;
    choice($("weights-layers"), network.layers.map((of) => of.name), (name) => {
      layer = network.layers.find((of) => of.name === name);
      $("weights-channel").max = layer.channels.length - 1;
      $("weights-channel").value = 0;
      show();
    });
  }
  /** Matplotlib's "seismic": blue below zero, white, red above. */
  function seismic(value) {
    const mix = (from, to, share) => from.map((start, index) => Math.round(start + (to[index] - start) * share));
    const stops = [[0, 0, 76], [0, 0, 255], [255, 255, 255], [255, 0, 0], [128, 0, 0]];
    const place = Math.max(0, Math.min(3.999, 2 * (value + 1)));
    return mix(stops[Math.floor(place)], stops[Math.floor(place) + 1], place % 1);
  }

  // ---- configuration

  function table(title, values) {
    const body = element("table", {}, ...Object.entries(values).map(([name, value]) => element("tr", {}, element("td", {}, name), element("td", {}, value))));
    $("configuration-body").append(element("div", { className: "card" }, element("h3", {}, title), body));
  }
  table("Hyperparameters", data.configuration.hyperparameters);
  for (const [name, values] of Object.entries(data.configuration.versions)) table(`Versions of ${name === "training" ? "the training" : name}`, values);
  table("Arguments of the training", data.configuration.arguments);

  showTheme();
})();
