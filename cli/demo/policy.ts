import type { Random } from '../../bench/problems/random.js';
import { vocabularySize } from './additions.js';
import { embeddingRows, featuresPerContext } from './contexts.js';

/** What `forward` leaves for `backward`. */
export interface Activations {
  readonly features: Int32Array; // [U, featuresPerContext]
  readonly hidden: Float64Array; // [U, hidden]
  readonly logits: Float64Array; // [U, V]
}

/**
 * A policy small enough to read: embeddings of the question and of the text so far, summed, one ReLU layer, logits.
 * It runs in plain float64 TypeScript, so what it samples never depends on the backend that computes its gradient.
 */
export class Policy {
  readonly hiddenSize: number;
  /** All weights in one array, so that the optimizer is one loop: embeddings [rows, hidden], then output [hidden + 1, V]. */
  readonly weights: Float64Array;
  readonly gradient: Float64Array;
  readonly #outputStart: number;

  constructor(hiddenSize: number, random: Random) {
    this.hiddenSize = hiddenSize;
    this.#outputStart = embeddingRows * hiddenSize;
    this.weights = new Float64Array(this.#outputStart + (hiddenSize + 1) * vocabularySize);
    this.gradient = new Float64Array(this.weights.length);
    // Scaled so that the hidden units start near unit variance and the logits near zero: close to a uniform policy.
    const embeddingScale = 1 / Math.sqrt(featuresPerContext);
    const outputScale = 0.1 / Math.sqrt(hiddenSize);
    for (let i = 0; i < this.weights.length; i++) {
      this.weights[i] = random.normal() * (i < this.#outputStart ? embeddingScale : outputScale);
    }
  }

  /** `features`: the embedding rows of U contexts, [U, featuresPerContext]. */
  forward(features: Int32Array): Activations {
    const count = features.length / featuresPerContext;
    const hidden = new Float64Array(count * this.hiddenSize);
    const logits = new Float64Array(count * vocabularySize);
    for (let u = 0; u < count; u++) {
      this.#embed(features, hidden, u);
      this.#project(hidden, logits, u);
    }
    return { features, hidden, logits };
  }

  /** Adds the gradient of the weights to `gradient`, given that of the logits ([U, V]). */
  backward({ features, hidden }: Activations, gradLogits: Float64Array): void {
    const gradHidden = new Float64Array(this.hiddenSize);
    for (let u = 0; u < features.length / featuresPerContext; u++) {
      this.#projectBackward(hidden, gradLogits, gradHidden, u);
      this.#embedBackward(features, hidden, gradHidden, u);
    }
  }

  #embed(features: Int32Array, hidden: Float64Array, u: number): void {
    const size = this.hiddenSize;
    for (let f = 0; f < featuresPerContext; f++) {
      const row = features[u * featuresPerContext + f] * size;
      for (let h = 0; h < size; h++) hidden[u * size + h] += this.weights[row + h];
    }
    for (let h = 0; h < size; h++) hidden[u * size + h] = Math.max(hidden[u * size + h], 0);
  }

  #embedBackward(features: Int32Array, hidden: Float64Array, gradHidden: Float64Array, u: number): void {
    const size = this.hiddenSize;
    for (let h = 0; h < size; h++) if (hidden[u * size + h] === 0) gradHidden[h] = 0;
    for (let f = 0; f < featuresPerContext; f++) {
      const row = features[u * featuresPerContext + f] * size;
      for (let h = 0; h < size; h++) this.gradient[row + h] += gradHidden[h];
    }
  }

  #project(hidden: Float64Array, logits: Float64Array, u: number): void {
    const biasStart = this.#outputStart + this.hiddenSize * vocabularySize;
    for (let v = 0; v < vocabularySize; v++) logits[u * vocabularySize + v] = this.weights[biasStart + v];
    for (let h = 0; h < this.hiddenSize; h++) {
      const activation = hidden[u * this.hiddenSize + h];
      if (activation === 0) continue;
      const row = this.#outputStart + h * vocabularySize;
      for (let v = 0; v < vocabularySize; v++) logits[u * vocabularySize + v] += activation * this.weights[row + v];
    }
  }

  #projectBackward(hidden: Float64Array, gradLogits: Float64Array, gradHidden: Float64Array, u: number): void {
    const logitsRow = u * vocabularySize;
    const biasStart = this.#outputStart + this.hiddenSize * vocabularySize;
    for (let v = 0; v < vocabularySize; v++) this.gradient[biasStart + v] += gradLogits[logitsRow + v];
    for (let h = 0; h < this.hiddenSize; h++) {
      const activation = hidden[u * this.hiddenSize + h];
      const row = this.#outputStart + h * vocabularySize;
      let sum = 0;
      for (let v = 0; v < vocabularySize; v++) {
        sum += gradLogits[logitsRow + v] * this.weights[row + v];
        this.gradient[row + v] += gradLogits[logitsRow + v] * activation;
      }
      gradHidden[h] = sum;
    }
  }
}
