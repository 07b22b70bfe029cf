import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { describe, it } from 'node:test'
import { tokens } from '../../src/kernel/tokens.ts'

const root = path.resolve(import.meta.dirname, '../..')
const pairs = new Map(
  [...tokens().matchAll(/--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)/g)].map(([, name, light, dark]) => [
    name!,
    { light: light!, dark: dark! },
  ]),
)

describe('tokens', () => {
  // WCAG 2.2, success criterion 1.4.3: 4.5 for text of any size.
  for (const scheme of ['light', 'dark'] as const) {
    it(`every colour of text can be read on every ground, ${scheme}`, () => {
      const grounds = ['ground', 'surface', 'raised']
      const texts = [...pairs.keys()].filter((name) => !/ground|surface|raised|line|accent-ink/.test(name))
      assert.ok(texts.length >= 10)
      const shown = [
        ...texts.flatMap((text) => grounds.map((ground) => [text, ground] as const)),
        ...(['good', 'warn', 'bad'] as const).map((state) => [state, `${state}-ground`] as const),
        ['accent-ink', 'accent'] as const,
      ]
      for (const [text, ground] of shown) {
        const contrast = contrastOf(pairs.get(text)![scheme], pairs.get(ground)![scheme])
        assert.ok(contrast >= 4.5, `${text} on ${ground}: ${contrast.toFixed(2)}`)
      }
    })
  }

  it('are the only place of colours and fonts', () => {
    const files = globSync('{src,examples/conduit}/**/*.{ts,css,js,html}', { cwd: root })
    assert.ok(files.includes('src/kernel/tokens.css'))
    const others = files.filter((file) => file !== 'src/kernel/tokens.css')
    const found = others.flatMap((file) =>
      readFileSync(path.join(root, file), 'utf8')
        .split('\n')
        .filter((line) => /['":, (]#(?:[\da-f]{3}|[\da-f]{6})\b(?!\()|system-ui|sans-serif;/i.test(line))
        .map((line) => `${file}: ${line.trim()}`),
    )
    assert.deepEqual(found, [])
  })
})

/** WCAG 2.2, "contrast ratio" and "relative luminance". */
function contrastOf(one: string, other: string): number {
  const [light, dark] = [luminanceOf(one), luminanceOf(other)].sort((a, b) => b - a)
  return (light! + 0.05) / (dark! + 0.05)
}

function luminanceOf(colour: string): number {
  const [red, green, blue] = [1, 3, 5].map((at) => {
    const value = Number.parseInt(colour.slice(at, at + 2), 16) / 255
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4
  })
  return 0.2126 * red! + 0.7152 * green! + 0.0722 * blue!
}
