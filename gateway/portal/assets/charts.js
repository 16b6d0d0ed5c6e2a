// Charts over time, drawn by uPlot from what the page says in data-chart; gaps are gaps. Colours are those of the page.
/* global uPlot */
const drawn = new Map();
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });

function colour(name) {
  return resolved(`var(--${name})`);
}

// A custom property that is light or dark is known only once something has it as its colour.
function resolved(value) {
  const probe = document.createElement("span");
  probe.style.color = value;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function draw(place) {
  drawn.get(place)?.destroy();
  const chart = JSON.parse(place.dataset.chart);
  const axis = { stroke: colour("faint"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
  const value = (_, at) => (at === null || at === undefined ? "–" : `${at.toLocaleString()} ${chart.unit}`);
  const time = (_, at) => (at === null ? "–" : new Date(at * 1000).toLocaleString());
  const series = chart.series.map((one) => ({
    label: one.label, value, stroke: colour(one.tone), width: 1.5, points: { show: one.values.filter((each) => each !== null).length < 30 },
  }));
  const most = Math.max(1, ...chart.series.flatMap((one) => one.values.map((each) => each ?? 0)));
  const options = {
    width: place.clientWidth, height: 200, series: [{ label: "Time", value: time }, ...series],
    scales: { y: chart.free ? {} : { range: [0, most * 1.1] } },
    axes: [{ ...axis, values: (_, marks) => marks.map((mark) => clock.format(mark * 1000)) }, { ...axis, size: 56, values: (_, marks) => marks.map((mark) => (chart.free || Number.isInteger(mark) ? mark.toLocaleString() : "")) }],
    cursor: { y: false }, legend: { live: true },
  };
  place.replaceChildren();
  drawn.set(place, new uPlot(options, [chart.x, ...chart.series.map((one) => one.values)], place));
}

export function drawCharts(within) {
  for (const place of within.querySelectorAll("[data-chart]")) draw(place);
}

const all = () => drawCharts(document);
const resized = new ResizeObserver((entries) => {
  for (const { target } of entries) drawn.get(target)?.setSize({ width: target.clientWidth, height: 200 });
});
const begin = () => {
  all();
  for (const place of document.querySelectorAll("[data-chart]")) resized.observe(place);
};
begin();
document.addEventListener("htmx:afterSwap", begin);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", all);
new MutationObserver(all).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
