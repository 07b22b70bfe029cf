import { sizes } from './places.ts'

/** A picture that nobody can make an avatar of: another try is of no use. */
export class BadPicture extends Error {}

/** A phone's camera makes 12 to 50 million. A file of some KB may claim billions, and would take gigabytes to decode. */
const pixelsMax = 50_000_000
const secondsMax = 20

/**
 * Squares in all sizes, without what the camera wrote into the file (the place, for one). Decoded once; the smaller ones are made
 * from the largest.
 * @throws BadPicture
 */
export async function squaresOf(original: Uint8Array): Promise<Map<number, Uint8Array>> {
  // Loaded by who needs it: a process that only answers requests does without 20 MiB of decoders.
  const { default: sharp } = await import('sharp')
  sharp.concurrency(1)
  sharp.cache(false)
  const [largest, ...smaller] = [...sizes].sort((a, b) => b - a)
  const options = { limitInputPixels: pixelsMax, failOn: 'error', sequentialRead: true } as const
  try {
    const big = await sharp(original, options)
      .timeout({ seconds: secondsMax })
      .autoOrient()
      .resize(largest, largest, { fit: 'cover' })
      .toColourspace('srgb')
      .webp({ quality: 82 })
      .toBuffer()
    const squares = new Map<number, Uint8Array>([[largest!, big]])
    for (const size of smaller) {
      squares.set(size, await sharp(big).resize(size, size).webp({ quality: 82 }).toBuffer())
    }
    return squares
  } catch (cause) {
    throw new BadPicture('the picture cannot be read', { cause })
  }
}
