/**
 * `node --conditions=rung-source scripts/screenshots.ts [URL]`: pictures of Conduit's pages for the documentation, from an app that runs and has
 * been seeded (`npm run conduit:seed -- --articles 300`).
 */
import { mkdirSync } from 'node:fs'
import path from 'node:path'
import sharp from 'sharp'
import { desktop, openBrowser, phone } from '../test/support/browser.ts'

const base = process.argv[2] ?? 'http://127.0.0.1:3000'
const folder = path.resolve(import.meta.dirname, '../docs/images')
mkdirSync(folder, { recursive: true })
const browser = await openBrowser()
for (const [width, options] of [
  ['desktop', desktop],
  ['phone', phone],
] as const) {
  const { page } = await browser.visit(options)
  const keep = async (name: string, at?: string) => {
    if (at !== undefined) await page.goto(base + at)
    await page.evaluate('scrollTo(0, 0)')
    const file = path.join(folder, `conduit-${name}-${width}.webp`)
    await sharp(await page.screenshot())
      .webp({ quality: 50, effort: 6 })
      .toFile(file)
    console.log(path.relative(process.cwd(), file))
  }
  const who = `ann-${Date.now().toString(36)}`
  await keep('front', '/')
  await keep('sign-up', '/register')
  await page.getByLabel('Username').fill(who)
  await page.getByLabel('Email').fill(`${who}@example.com`)
  await page.getByLabel('Password').fill('correct horse')
  await page.getByRole('button', { name: 'Sign up' }).click()
  await page.getByRole('link', { name: who }).waitFor()
  await page.locator('.article-preview .heart').first().click()
  await page.locator('.article-preview .heart.btn-primary').first().waitFor()
  await keep('home')
  await page.locator('.preview-link').first().click()
  await page.locator('.prose').waitFor()
  await keep('article')
  const author = await page.locator('.article-page a.author').first().getAttribute('href')
  await keep('profile', author!)
  await keep('editor', '/editor')
  await page.goto(`${base}/settings`)
  await page.locator('#picture').setInputFiles({ name: 'me.png', mimeType: 'image/png', buffer: await portrait() })
  await page.getByRole('button', { name: 'Send picture' }).click()
  await page.locator('.own-picture img:not([src$="default-avatar.svg"])').waitFor()
  await page.evaluate('document.querySelector(".own-picture img").decode()')
  await keep('settings')
  await keep('search', '/search?q=indexes')
}
await browser.close()

/** Of nobody: hills at dusk. */
function portrait(): Promise<Buffer> {
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">
    <linearGradient id="sky" x2="0" y2="1"><stop stop-color="#26445e"/><stop offset="1" stop-color="#f2b880"/></linearGradient>
    <path fill="url(#sky)" d="M0 0h64v64H0z"/><circle cx="44" cy="34" r="7" fill="#ffe9c4"/>
    <path fill="#3e6b5a" d="M0 46 20 32l18 14 12-8 14 10v16H0z"/><path fill="#1f3d33" d="M0 56l26-10 38 12v6H0z"/></svg>`
  return sharp(Buffer.from(svg), { density: 800 }).png().toBuffer()
}
