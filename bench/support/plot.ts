import { writeFile } from 'node:fs/promises'

/** A line of a plot: one value for each second. */
export interface Line {
  name: string
  values: readonly number[]
  color: string
  dashed?: boolean
}

export interface Panel {
  title: string
  /** What the lines count. */
  unit: string
  lines: readonly Line[]
}

/** What was done, and from when to when, in seconds. */
export interface Mark {
  text: string
  fromS: number
  toS: number
}

const width = 760
const height = 170
const left = 48
const top = 34
const between = 40
const right = 26
const pointsMax = 300

/** Writes panels below each other, over the same seconds, as an SVG that is readable on light and dark pages. */
export async function plot(file: string, panels: readonly Panel[], marks: readonly Mark[] = []): Promise<void> {
  const all = panels.map((panel, index) => panelOf(panel, top + index * (height + between + top), marks))
  const bottom = panels.length * (height + between + top)
  await writeFile(
    file,
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${bottom}" font-family="system-ui, sans-serif" font-size="12">
<title>${panels.map(({ title }) => title).join('; ')}</title>
<rect width="100%" height="100%" fill="#fff"/>
${all.join('\n')}
</svg>
`,
  )
}

/** Writes one bar for each value, below each other. */
export async function bars(
  file: string,
  title: string,
  values: readonly { name: string; value: number }[],
): Promise<void> {
  const [from, row] = [150, 28]
  const most = Math.max(...values.map(({ value }) => value))
  const all = values.map(({ name, value }, index) => {
    const y = top + 10 + index * row
    const long = Math.max(1, Math.round(((width - from - 70) * value) / most))
    return `<text x="${from - 8}" y="${y + 13}" text-anchor="end" fill="#111">${name}</text><rect x="${from}" y="${y}" width="${long}" height="18" fill="#2563eb"/><text x="${from + long + 6}" y="${y + 13}" fill="#111">${value}</text>`
  })
  await writeFile(
    file,
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${top + 20 + values.length * row}" font-family="system-ui, sans-serif" font-size="12">
<title>${title}</title>
<rect width="100%" height="100%" fill="#fff"/>
<text x="${left}" y="${top - 10}" fill="#111" font-weight="600">${title}</text>
${all.join('\n')}
</svg>
`,
  )
}

function panelOf({ title, unit, lines }: Panel, y: number, marked: readonly Mark[]): string {
  const seconds = Math.max(...lines.map(({ values }) => values.length)) - 1
  const most = niceAbove(Math.max(...lines.flatMap(({ values }) => values)))
  const xOf = (second: number) => Math.round((left + ((width - left - right) * second) / seconds) * 10) / 10
  const yOf = (value: number) => Math.round(y + height - (height * value) / most)
  const marks = [0, most / 2, most].map(
    (value) =>
      `<path d="M${left} ${yOf(value)}H${width - right}" stroke="#ddd"/><text x="${left - 6}" y="${yOf(value) + 4}" text-anchor="end" fill="#555">${value}</text>`,
  )
  const times = [0, 0.25, 0.5, 0.75, 1].map(
    (share) =>
      `<text x="${xOf(share * seconds)}" y="${y + height + 16}" text-anchor="middle" fill="#555">${Math.round(share * seconds)} s</text>`,
  )
  const paths = lines.map(({ values, color, dashed }) => {
    const every = Math.ceil(values.length / pointsMax)
    const points = values.flatMap((value, second) =>
      second % every === 0 ? [`${second === 0 ? 'M' : 'L'}${xOf(second)} ${yOf(value)}`] : [],
    )
    return `<path d="${points.join('')}" fill="none" stroke="${color}" stroke-width="1.8"${dashed ? ' stroke-dasharray="5 4"' : ''}/>`
  })
  const bands = marked.map(({ text, fromS, toS }) => {
    const [from, to] = [xOf(fromS), xOf(Math.min(toS, seconds))]
    return `<rect x="${from}" y="${y}" width="${Math.max(1, to - from)}" height="${height}" fill="#888" fill-opacity="0.15"/><text x="${from + 3}" y="${y + 14}" fill="#555">${text}</text>`
  })
  const names = lines.map(
    ({ name, color }, index) => `<text x="${left + 210 + index * 150}" y="${y - 10}" fill="${color}">${name}</text>`,
  )
  const heading = `<text x="${left}" y="${y - 10}" fill="#111" font-weight="600">${title} (${unit})</text>`
  return [heading, ...names, ...bands, ...marks, ...times, ...paths].join('\n')
}

function niceAbove(value: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, value)))
  return [1, 2, 4, 6, 8, 10].map((factor) => factor * power).find((one) => one >= value)!
}
