// Binary frames between a program in another language and the server: calls of this package's functions, and their results.
//
//   u32 bytes of the header | u32 bytes of the payload | header, JSON in UTF-8 | payload        (little endian)
//
// In the header an array is { "$array": "f32", "at": its first byte in the payload, "length" }, and a number that JSON lacks is
// { "$number": "Infinity" }. Arrays begin at multiples of 8 bytes.

const ARRAYS = {
  f32: Float32Array,
  f64: Float64Array,
  i32: Int32Array,
  u8: Uint8Array,
  u16: Uint16Array,
};

type ArrayName = keyof typeof ARRAYS;

/** A request or a reply: JSON values, numbers of any kind and typed arrays. */
export type Message = { readonly [name: string]: unknown };

const PREFIX_BYTES = 8;
const ALIGNMENT = 8;

const aligned = (bytes: number) => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

/** The bytes of a message. Fields that are undefined, and functions, are left out. */
export function encodeFrame(message: Message): Uint8Array {
  const arrays: ArrayBufferView[] = [];
  let payloadBytes = 0;
  const header = JSON.stringify(message, (_, value: unknown) => {
    if (typeof value === 'number' && !Number.isFinite(value)) return { $number: String(value) };
    if (!ArrayBuffer.isView(value)) return value;
    const place = { $array: arrayName(value), at: payloadBytes, length: (value as Float32Array).length };
    arrays.push(value);
    payloadBytes += aligned(value.byteLength);
    return place;
  });
  const headerBytes = Buffer.from(header, 'utf8');
  const frame = Buffer.alloc(PREFIX_BYTES + headerBytes.length + payloadBytes);
  frame.writeUInt32LE(headerBytes.length, 0);
  frame.writeUInt32LE(payloadBytes, 4);
  frame.set(headerBytes, PREFIX_BYTES);
  let at = PREFIX_BYTES + headerBytes.length;
  for (const { buffer, byteOffset, byteLength } of arrays) {
    frame.set(new Uint8Array(buffer, byteOffset, byteLength), at);
    at += aligned(byteLength);
  }
  return frame;
}

function arrayName(array: ArrayBufferView): ArrayName {
  const name = (Object.keys(ARRAYS) as ArrayName[]).find((key) => array.constructor.name === ARRAYS[key].name);
  if (name === undefined) throw new TypeError(`a frame has no ${array.constructor.name}`);
  return name;
}

/** The message of one whole frame; its arrays have memory of their own. */
export function decodeFrame(frame: Uint8Array): Message {
  const bytes = Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength);
  const end = PREFIX_BYTES + bytes.readUInt32LE(0);
  // A copy: arrays must start at multiples of their elements' size, which the header's length is not.
  const payload = Uint8Array.from(bytes.subarray(end)).buffer;
  return JSON.parse(bytes.toString('utf8', PREFIX_BYTES, end), (_, value: unknown) => {
    const { $number, $array, at, length } = Object(value);
    if ($number !== undefined) return Number($number);
    return $array === undefined ? value : new ARRAYS[$array as ArrayName](payload, at, length);
  });
}

/** Puts frames together from the chunks of a stream. */
export class FrameReader {
  #chunks: Uint8Array[] = [];
  #bytes = 0;

  /** Takes a chunk; returns the messages that it completes. */
  push(chunk: Uint8Array): Message[] {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    const messages: Message[] = [];
    for (let size = this.#nextSize(); size !== undefined && this.#bytes >= size; size = this.#nextSize()) {
      messages.push(decodeFrame(this.#take(size)));
    }
    return messages;
  }

  /** Bytes that belong to a frame whose end has not come. */
  get pending(): number {
    return this.#bytes;
  }

  #nextSize(): number | undefined {
    if (this.#bytes < PREFIX_BYTES) return undefined;
    if (this.#chunks[0].length < PREFIX_BYTES) this.#chunks = [Buffer.concat(this.#chunks)];
    const { buffer, byteOffset } = this.#chunks[0];
    const prefix = new DataView(buffer, byteOffset, PREFIX_BYTES);
    return PREFIX_BYTES + prefix.getUint32(0, true) + prefix.getUint32(4, true);
  }

  #take(size: number): Uint8Array {
    const all = Buffer.concat(this.#chunks);
    this.#chunks = [all.subarray(size)];
    this.#bytes -= size;
    return all.subarray(0, size);
  }
}
