import { type Launched, until } from './process.ts'

/** In the browser. */
export const isDrawn = `(() => {
  const main = document.querySelector('main')
  return main?.querySelector('.panel') && !main.textContent.includes('Reading …')
})()`

/** Of `rung console --json`. */
export const urlOf = ({ stdout }: Launched) =>
  until(() => /"url": "([^"]+)"/.exec(stdout())?.[1], 'the address of the console')
