import { startProvider } from './provider.ts'

/** `npm run shop:provider`: a payment provider for the shop that runs on this machine. Its book is at `/charges`. */
const { SHOP_PROVIDER_SECRET: secret, SHOP_URL: shop = 'http://localhost:3000', PORT: port = '4100' } = process.env
if (secret === undefined) throw new Error('Set SHOP_PROVIDER_SECRET to the same text as for the shop.')
const provider = await startProvider({ secret, port: Number(port) })
provider.sendEventsTo(new URL('/payments/webhook', shop).href)
console.log(`The payment provider listens on ${provider.url} and sends its events to ${shop}.`)
