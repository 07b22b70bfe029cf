import { existsSync } from 'node:fs'
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core'

const places = [
  process.env.CHROMIUM,
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
  '/opt/homebrew/bin/chromium',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
  '/Applications/Chromium.app/Contents/MacOS/Chromium',
]

export const browserPackages = { debian: ['chromium'], debianServices: [], brew: ['chromium'], dockerImage: '' }

export function findBrowser(): string | undefined {
  return places.find((place) => place !== undefined && existsSync(place))
}

/** For `{ skip: noBrowser }`: the reason, where there is none. */
export const noBrowser: string | false = findBrowser()
  ? false
  : 'no Chromium is installed: install it (apt install chromium, brew install chromium), or name it in CHROMIUM'

export const desktop = { viewport: { width: 1280, height: 900 } } as const
export const phone = {
  viewport: { width: 390, height: 844 },
  deviceScaleFactor: 2,
  isMobile: true,
  hasTouch: true,
} as const

export interface Visited {
  page: Page
  /** What the browser complained of: scripts that failed, what its policy refused. */
  complaints: string[]
}

export async function openBrowser(): Promise<{
  visit(options?: BrowserContextOptions): Promise<Visited>
  close(): Promise<void>
}> {
  const isRoot = process.getuid?.() === 0
  const browser: Browser = await chromium.launch({
    executablePath: findBrowser()!,
    args: isRoot ? ['--no-sandbox'] : [],
  })
  return {
    async visit(options = desktop) {
      const context = await browser.newContext(options)
      // Pictures of other sites are not theirs to fetch here.
      await context.route(
        (url) => !/^(127\.0\.0\.1|localhost|\[::1\])$/.test(url.hostname),
        (route) =>
          route.fulfill({
            status: 200,
            contentType: 'image/svg+xml',
            body: '<svg xmlns="http://www.w3.org/2000/svg"/>',
          }),
      )
      const page = await context.newPage()
      const complaints: string[] = []
      page.on('pageerror', ({ message }) => complaints.push(message))
      page.on('console', (message) => {
        if (message.type() === 'error' && !/status of 4\d\d/.test(message.text())) complaints.push(message.text())
      })
      return { page, complaints }
    },
    close: () => browser.close(),
  }
}
