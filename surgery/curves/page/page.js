// Each section is brought to life by itself. Its JSON holds the points with all numbers and words; the pictures hold
// where values are.
(() => {
  const { allExcesses, asked, choose, how, least, python, within, worst } = rules;

  // Three digits, rounded up, so that a slider at the cheapest point still lets it in.
  function roundedUp(value) {
    if (!(value > 0)) return value;
    const step = 10 ** (Math.floor(Math.log10(value)) - 2);
    return Number((Math.ceil(value / step - 1e-9) * step).toPrecision(3));
  }

  // Few digits for a score that is asked for, and never a higher one.
  function roundedDown(value, range) {
    const step = 10 ** (Math.floor(Math.log10(range || 1)) - 4);
    const short = Number((Math.floor(value / step) * step).toPrecision(12));
    return short <= value ? short : value;
  }

  function element(name, kind, text) {
    const made = document.createElement(name);
    made.className = kind;
    made.textContent = text;
    return made;
  }

  function copyText(text, element) {
    if (navigator.clipboard) return navigator.clipboard.writeText(text).catch(() => selected(element));
    return Promise.resolve(selected(element));
  }

  function selected(element) {
    getSelection().selectAllChildren(element);
    document.execCommand("copy");
  }

  function enliven(section) {
    const find = (selector) => section.querySelector(selector);
    const all = (selector) => [...section.querySelectorAll(selector)];
    const facts = JSON.parse(find("script").textContent);
    const { points, reference } = facts;
    const charts = all(".chart");
    const rows = all(".budget [data-measure]");
    const tip = find(".tip");
    const headings = all(".result dt").map((heading) => heading.textContent);
    const luck = find(".luck input");
    let limits = { ...facts.limits };
    const errors = () => (luck && luck.checked ? facts.errors || 1 : 0);
    let shown = facts.picked;
    points.forEach((point, i) => { point.at = i; });

    const label = (point) =>
      `${point.name}, ` + point.tiles.map(([value], i) => `${headings[i].toLowerCase()} ${value}`).join(", ");

    // ---- what is shown ----
    const said = (kind) => how(facts, limits, errors(), kind);

    function show(place, kind) {
      shown = place;
      const point = points[place];
      all("[data-point]").forEach((mark) => {
        const on = Number(mark.dataset.point) === place;
        mark.classList.toggle("on", on);
        if (mark.getAttribute("role") !== "radio") return;
        mark.setAttribute("aria-checked", on);
        mark.setAttribute("tabindex", on ? 0 : -1);
      });
      charts.forEach((chart) => {
        chart.querySelector(".ring").setAttribute("transform", markOf(chart, place).getAttribute("transform"));
      });
      all(".result dl > div").forEach((cell, i) => {
        [cell.children[1].textContent, cell.children[2].textContent] = point.tiles[i];
      });
      all(".widths li").forEach((row, i) => {
        row.querySelector(".kept").setAttribute("width", `${100 * point.widths[i] / facts.sizes[i]}%`);
        row.querySelector("b").textContent = point.widths[i];
      });
      find(".python code").textContent = point.code;
      all("[data-needs]").forEach((remark) => { remark.hidden = !point.code.includes(remark.dataset.needs); });
      find(".same").textContent = kind === "hand" || kind === "none" || idle()
        ? `From the curve: curve[${point.row}]` : `From the curve: curve.choose(${python(limits, errors())})`;
      find(".how").replaceChildren(`${said(kind)}: ${point.name}.`, element("span", "heard",
        ` ${headings[0]} ${point.tiles[0][0]}, ${headings[1].toLowerCase()} ${point.tiles[1][0]}.`));
      section.dataset.shown = place;
      section.dataset.how = kind;
      section.dataset.limits = python(limits, errors());
    }

    // A score below all points is no limit: curve.choose refuses it where it stands alone.
    const idle = () => Object.keys(limits).join() === "score" && points.length > 1
      && allExcesses(points, limits, errors()).every((excess) => excess < 0);

    function pick() {
      const point = choose(points, limits, errors());
      const names = Object.keys(limits);
      drawLimits();
      find(".asked").textContent = asked(facts, limits, errors());
      if (point) return show(point.at, !names.length ? "any" : names.join() === "score" ? "cheapest" : "best");
      return show(least(points, (p) => [worst(p, limits, errors())]).at, "none");
    }

    // ---- limits ----
    function drawLimits() {
      all(".chart .mark").forEach((element) => {
        element.classList.toggle("out", !within(points[element.dataset.point], limits, errors()));
      });
      charts.forEach((chart) => {
        const [left, top, right, bottom] = chart.dataset.box.split(" ").map(Number);
        const across = clamp(position(chart, limits[chart.dataset.axis], right), left, right);
        const [low, high] = chart.dataset.y.split(" ").map(Number);
        const down = "score" in limits
          ? clamp(bottom - (limits.score - low) / (high - low) * (bottom - top), top, bottom) : bottom;
        chart.querySelector(".limits path").setAttribute(
          "d", `M${across} ${top}H${right}V${bottom}H${left}V${down}H${across}z`);
        chart.dataset.band = across < right || down < bottom;
      });
      drawLegend();
    }

    // Only what the picture has now.
    function drawLegend() {
      find("[data-kind=out]").hidden = !charts[0].querySelector(".mark.out");
      const { value } = find(".axes input:checked");
      find("[data-kind=band]").hidden = find(`.chart[data-axis=${value}]`).dataset.band !== "true";
    }

    function position(chart, value, otherwise) {
      if (value === undefined) return otherwise;
      const [left, , right] = chart.dataset.box.split(" ").map(Number);
      const scale = chart.dataset.log === "1" ? Math.log : Number;
      const [low, high] = chart.dataset.x.split(" ").map((edge) => scale(Number(edge)));
      return left + (scale(value) - low) / (high - low) * (right - left);
    }

    const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

    rows.forEach((row) => {
      const { measure } = row.dataset;
      const unit = Number(row.dataset.unit);
      const [entry, slider] = row.querySelectorAll("input");
      const values = points.map((point) => point[measure]);
      const [low, high] = [Math.min(...values), Math.max(...values)];
      const loss = Math.max(reference - low, 0) / unit || 1;

      // From the slider's hundred steps to a number in the entry's unit, and back.
      const number = (t) => measure === "score" ? Number((loss * (t / 100) ** 2).toPrecision(2))
        : roundedUp((low > 0 ? low * (high / low) ** (t / 100) : low + (high - low) * t / 100) / unit);
      const steps = (n) => 100 * (measure === "score" ? Math.sqrt(Math.max(n, 0) / loss)
        : low > 0 ? Math.log(n * unit / low) / Math.log(high / low) : (n * unit - low) / (high - low));
      const limit = (n) => measure === "score" ? roundedDown(reference - n * unit, high - low)
        : measure === "latency" ? n * unit : Math.max(Math.round(n * unit), 1);

      function set(n) {
        const given = n !== null && Number.isFinite(n) && (measure === "score" || n > 0);
        if (given) limits[measure] = limit(n); else delete limits[measure];
        return given;
      }

      row.display = () => {
        const known = measure in limits;
        const n = measure === "score" ? (reference - limits.score) / unit : limits[measure] / unit;
        entry.value = known ? Number(n.toPrecision(3)) : "";
        placed(known ? n : null);
      };

      function placed(n) {
        const t = n === null ? 100 : steps(n);
        slider.value = Number.isFinite(t) ? clamp(Math.round(t), 0, 99 + (n === null)) : 100;
        slider.setAttribute("aria-valuetext", n === null ? "no limit"
          : `${entry.value} ${row.querySelector(".unit").textContent}`);
      }

      slider.addEventListener("input", () => {
        const t = Number(slider.value);
        const n = t >= 100 ? null : number(t);
        entry.value = n === null ? "" : n;
        slider.setAttribute("aria-valuetext", n === null ? "no limit"
          : `${n} ${row.querySelector(".unit").textContent}`);
        set(n);
        pick();
      });
      entry.addEventListener("input", () => {
        const n = entry.value === "" ? null : entry.valueAsNumber;
        placed(set(n) ? n : null);
        pick();
      });
      row.display();
    });

    find(".clear").addEventListener("click", () => {
      limits = {};
      if (luck) luck.checked = false;
      rows.forEach((row) => row.display());
      pick();
    });
    if (luck) luck.addEventListener("change", pick);
    find(".budget").addEventListener("submit", (event) => event.preventDefault());

    // ---- points ----
    const visible = () => charts.find((chart) => chart.getClientRects().length) || charts[0];
    const markOf = (chart, place) => chart.querySelector(`[data-point="${place}"]`);

    function hover(place) {
      all(".mark.near").forEach((element) => element.classList.remove("near"));
      tip.hidden = place === null;
      if (place === null) return;
      const mark = markOf(visible(), place);
      mark.classList.add("near");
      const { name, tiles } = points[place];
      const lines = tiles.map(([value, note], i) => `${headings[i]}: ${value} (${note})`);
      tip.replaceChildren(element("b", "", name), ...lines.map((line) => element("span", "", line)));
      const [dot, box] = [mark.getBoundingClientRect(), find(".plot").getBoundingClientRect()];
      const middle = dot.left + dot.width / 2 - box.left;
      tip.style.left = `${clamp(middle - tip.offsetWidth / 2, 4, box.width - tip.offsetWidth - 4)}px`;
      const above = dot.top - box.top - tip.offsetHeight - 10;
      tip.style.top = `${above > 0 ? above : dot.bottom - box.top + 10}px`;
    }

    // The nearest mark within a finger's width of the pointer.
    function nearest(chart, event) {
      let best = null;
      let closest = 28;
      chart.querySelectorAll(".mark").forEach((element) => {
        const box = element.getBoundingClientRect();
        const away = Math.hypot(event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2);
        if (away < closest) [best, closest] = [Number(element.dataset.point), away];
      });
      return best;
    }

    // The next point along the axis that is drawn, of the same curve for left and right.
    function neighbour(chart, key) {
      const { axis } = chart.dataset;
      const order = [...points].sort((a, b) => a[axis] - b[axis] || a.at - b.at).map((point) => point.at);
      const series = [...markOf(chart, shown).parentNode.querySelectorAll(".mark")].map((m) => Number(m.dataset.point));
      const line = key === "ArrowLeft" || key === "ArrowRight" ? order.filter((place) => series.includes(place)) : order;
      const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[key];
      if (step) return line[clamp(line.indexOf(shown) + step, 0, line.length - 1)];
      return { Home: line[0], End: line[line.length - 1] }[key];
    }

    charts.forEach((chart) => {
      chart.setAttribute("role", "radiogroup");
      chart.querySelectorAll(".mark").forEach((element) => {
        element.setAttribute("role", "radio");
        element.setAttribute("aria-label", label(points[element.dataset.point]));
        element.addEventListener("focus", () => hover(Number(element.dataset.point)));
        element.addEventListener("blur", () => hover(null));
      });
      chart.addEventListener("pointermove", (event) => hover(nearest(chart, event)));
      chart.addEventListener("pointerleave", () => hover(null));
      chart.addEventListener("click", (event) => {
        const place = nearest(chart, event);
        if (place !== null) show(place, "hand");
        hover(place);  // a finger that is lifted leaves the chart before it clicks
      });
      chart.addEventListener("keydown", (event) => {
        if (event.key === "Escape") hover(null);
        const place = neighbour(chart, event.key);
        if (place === undefined) return;
        event.preventDefault();
        show(place, "hand");
        markOf(chart, place).focus();
      });
    });
    all(".axes input").forEach((input) => input.addEventListener("change", () => {
      hover(null);
      drawLegend();
    }));
    document.addEventListener("pointerdown", (event) => { if (!event.target.closest(".chart")) hover(null); });
    all("tbody tr").forEach((row) => row.addEventListener("click", () => show(Number(row.dataset.point), "hand")));
    find(".copy").addEventListener("click", async (event) => {
      const button = event.currentTarget;
      await copyText(find(".python code").textContent, find(".python code"));
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    pick();
  }

  document.querySelectorAll(".model").forEach(enliven);
  document.documentElement.classList.add("live");
})();
