import { crc32, deflateSync } from 'node:zlib'
import sharp from 'sharp'

/** Noise does not compress: about as many bytes as pixels, and work for whoever decodes it. */
export function noise(width: number, height: number, format: 'png' | 'jpeg' | 'webp' = 'jpeg'): Promise<Buffer> {
  const gaussian = { type: 'gaussian', mean: 128, sigma: 30 } as const
  return sharp({ create: { width, height, channels: 3, background: 'black', noise: gaussian } })
    .toFormat(format)
    .toBuffer()
}

/** 144 million black pixels in 18 KiB: a correct PNG, written by hand since no encoder would make it as cheaply. */
export function bomb(side = 12_000): Buffer {
  const chunk = (type: string, data: Buffer) => {
    const body = Buffer.concat([Buffer.from(type), data])
    const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)]
    length.writeUInt32BE(data.length)
    sum.writeUInt32BE(crc32(body))
    return Buffer.concat([length, body, sum])
  }
  const header = Buffer.alloc(13)
  header.writeUInt32BE(side, 0)
  header.writeUInt32BE(side, 4)
  header.set([1, 0, 0, 0, 0], 8) // one bit of grey
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])
  const rows = deflateSync(Buffer.alloc(side * (1 + Math.ceil(side / 8))), { level: 9 })
  return Buffer.concat([signature, chunk('IHDR', header), chunk('IDAT', rows), chunk('IEND', Buffer.alloc(0))])
}
