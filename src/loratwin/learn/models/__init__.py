"""What predicts: features, trees and processes as arrays, the file that ships, and the answers; numpy only."""
